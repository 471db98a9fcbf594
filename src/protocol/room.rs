//! A chat room: its members, and the texts that they get.
//!
//! Owns: [`ChatRoom`], and every text to a member. Must not know: the way to a member. A text is a value, a [`Notice`]. A
//! loop, whose keys are ids, records it as a command. A thread behind a mutex, whose keys can be the queues themselves,
//! puts it into them.
//!
//! Invariants:
//! 1. Each arrival and each departure is announced once, however often a caller reports it.
//! 2. The order of the calls is the order of the texts for all members.
//! 3. A member can neither speak in another's name nor send two lines in one. Each text begins with the address of its
//!    member, and has one line end, as its last character.

use std::fmt::{Display, Write};
use std::hash::Hash;

use super::lines::push_clean;
use super::roster::Roster;

/// A text, and the members that get it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice<'a, K> {
    /// The members that get the text.
    pub to: &'a [K],
    /// One line, with its LF.
    pub text: &'a str,
}

/// The texts of an arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival<'a, K> {
    /// For the new member, before any other text.
    pub greeting: &'a str,
    /// For all other members.
    pub news: Notice<'a, K>,
}

/// Returns the last text to a member whose line is longer than `limit` bytes.
pub fn line_too_long(limit: usize) -> String {
    format!("Your line is too long: the limit is {limit} bytes\n")
}

/// A room whose members have keys of type `K`.
///
/// ```
/// use reactor::protocol::room::{ChatRoom, Notice};
///
/// let mut room = ChatRoom::new();
/// assert_eq!(room.arrive('a', "10.0.0.1:9").greeting, "You are 10.0.0.1:9\n");
/// assert_eq!(room.arrive('b', "10.0.0.2:9").news, Notice { to: &['a'], text: "10.0.0.2:9 has arrived\n" });
/// assert_eq!(room.say(&'a', b"hi"), Some(Notice { to: &['a', 'b'], text: "10.0.0.1:9: hi\n" }));
/// assert_eq!(room.leave(&'a'), Some(Notice { to: &['b'], text: "10.0.0.1:9 has left\n" }));
/// assert_eq!(room.leave(&'a'), None);
/// ```
#[derive(Debug)]
pub struct ChatRoom<K> {
    /// The members, each with its address as text, so that no line formats it again.
    members: Roster<K, String>,
    /// The text of the last notice, kept for its memory.
    text: String,
    greeting: String,
}

impl<K> Default for ChatRoom<K> {
    fn default() -> Self {
        Self { members: Roster::default(), text: String::new(), greeting: String::new() }
    }
}

/// The memory that the room keeps for the next text, in bytes.
const KEEP: usize = 64 * 1024;

impl<K: Clone + Eq + Hash> ChatRoom<K> {
    /// An empty room.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the members.
    pub fn members(&self) -> &[K] {
        self.members.keys()
    }

    /// Adds a member with the address `peer`. A member that is in the room already is greeted again, and not announced.
    pub fn arrive(&mut self, key: K, peer: impl Display) -> Arrival<'_, K> {
        let name = peer.to_string();
        self.greeting.clear();
        let _ = writeln!(self.greeting, "You are {name}");
        self.text.clear();
        let _ = writeln!(self.text, "{name} has arrived");
        let is_new = self.members.join(key, name);
        let others = match self.members.keys() {
            [others @ .., _newcomer] if is_new => others,
            _ => &[],
        };
        Arrival { greeting: &self.greeting, news: Notice { to: others, text: &self.text } }
    }

    /// Returns a member's line for all members, the speaker included; `None` if it is not in the room.
    pub fn say(&mut self, key: &K, line: &[u8]) -> Option<Notice<'_, K>> {
        let name = self.members.get(key)?;
        self.text.clear();
        self.text.shrink_to(KEEP);
        self.text.push_str(name);
        self.text.push_str(": ");
        push_clean(&mut self.text, line);
        self.text.push('\n');
        Some(Notice { to: self.members.keys(), text: &self.text })
    }

    /// Removes a member, and returns its departure for the others; `None` if it is not in the room.
    pub fn leave(&mut self, key: &K) -> Option<Notice<'_, K>> {
        let name = self.members.leave(key)?;
        self.text.clear();
        let _ = writeln!(self.text, "{name} has left");
        Some(Notice { to: self.members.keys(), text: &self.text })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(n: u16) -> SocketAddr {
        ([10, 0, 0, 1], n).into()
    }

    #[test]
    fn an_arrival_is_greeted_and_announced_to_the_others() {
        let mut room = ChatRoom::new();
        let first = room.arrive(1, peer(1));
        assert_eq!((first.greeting, first.news.to), ("You are 10.0.0.1:1\n", &[][..]));
        let second = room.arrive(2, peer(2));
        assert_eq!(second.greeting, "You are 10.0.0.1:2\n");
        assert_eq!(second.news, Notice { to: &[1], text: "10.0.0.1:2 has arrived\n" });
        let v6 = room.arrive(3, "[::1]:3");
        assert_eq!(v6.news, Notice { to: &[1, 2], text: "[::1]:3 has arrived\n" });
    }

    #[test]
    fn a_second_arrival_or_departure_is_not_announced() {
        let mut room = ChatRoom::new();
        room.arrive(1, peer(1));
        room.arrive(2, peer(2));
        assert!(room.arrive(2, peer(2)).news.to.is_empty());
        assert_eq!(room.members(), [1, 2]);
        assert_eq!(room.leave(&2), Some(Notice { to: &[1], text: "10.0.0.1:2 has left\n" }));
        assert_eq!(room.leave(&2), None);
        assert_eq!(room.say(&2, b"still here"), None);
        assert_eq!(room.members(), [1]);
    }

    #[test]
    fn a_line_reaches_all_members_as_one_clean_line() {
        let mut room = ChatRoom::new();
        room.arrive(1, peer(1));
        room.arrive(2, peer(2));
        let mut say = |line: &[u8]| {
            let notice = room.say(&2, line).unwrap();
            assert_eq!(notice.to, [1, 2]);
            notice.text.to_owned()
        };
        assert_eq!(say(b"hello"), "10.0.0.1:2: hello\n");
        assert_eq!(say(b""), "10.0.0.1:2: \n");
        assert_eq!(say(b"\x1b[31m\xff\r\n10.0.0.1:1: not me"), "10.0.0.1:2: [31m\u{fffd}10.0.0.1:1: not me\n");
    }

    #[test]
    fn a_long_text_keeps_no_memory() {
        let mut room = ChatRoom::new();
        room.arrive(1, peer(1));
        room.say(&1, &[b'x'; 1 << 20]);
        room.say(&1, b"short");
        assert!(room.text.capacity() <= KEEP, "{} kept", room.text.capacity());
    }
}
