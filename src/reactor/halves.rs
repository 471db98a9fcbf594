//! TCP is full duplex: the two half-states of a connection.
//!
//! Owns: [`Inbound`], [`Outbound`] and the table of their pairs. Must not know: buffers, readiness, services.
//!
//! ```text
//!                     Outbound: Connecting     Open            Finishing           FinSent
//!   Inbound: Open               Dialing        Open            ·                   ·
//!            Paused             ·              Paused          ·                   ·
//!            Discarding         ·              ·               Flushing            Lingering
//!            Eof                ·              HalfClosed      FlushingAfterEof    Over
//! ```
//!
//! The pairs marked `·` cannot be reached: `finish` makes an inbound half that is open or paused discard, and nothing
//! makes it open again. `Eof` stays `Eof`; `FinSent` stays `FinSent`. So [`Halves`] has a name for each that can, and no
//! value for the others.

/// From the peer to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inbound {
    /// Read, and hand to the service.
    Open,
    /// The service has asked not to be given more.
    Paused,
    /// Read and throw away: we have said our last word.
    Discarding,
    /// The peer has sent FIN.
    Eof,
}

/// From us to the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outbound {
    /// `connect` has been called and has not succeeded yet.
    Connecting,
    /// Bytes may be queued.
    Open,
    /// No more bytes will be queued; FIN follows the last one.
    Finishing,
    /// FIN has been sent.
    FinSent,
}

/// The state of a connection: a reachable pair of half-states, by its name in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Halves {
    /// A dialed connection that is not established.
    Dialing,
    /// Both sides may speak.
    Open,
    /// Both sides may speak; the service does not listen.
    Paused,
    /// The peer has said everything, we have not.
    HalfClosed,
    /// We have said everything; some of it is queued. The peer may speak, but nobody listens.
    Flushing,
    /// Both sides have said everything; some of ours is queued.
    FlushingAfterEof,
    /// Our FIN has been sent; the peer's has not come.
    Lingering,
    /// Nothing more will pass, either way: both have said everything, or it has failed. It is reaped at the end of the
    /// turn.
    Over,
}

impl Halves {
    /// The state from the peer to us.
    pub const fn inbound(self) -> Inbound {
        match self {
            Halves::Dialing | Halves::Open => Inbound::Open,
            Halves::Paused => Inbound::Paused,
            Halves::Flushing | Halves::Lingering => Inbound::Discarding,
            Halves::HalfClosed | Halves::FlushingAfterEof | Halves::Over => Inbound::Eof,
        }
    }

    /// The state from us to the peer.
    pub const fn outbound(self) -> Outbound {
        match self {
            Halves::Dialing => Outbound::Connecting,
            Halves::Open | Halves::Paused | Halves::HalfClosed => Outbound::Open,
            Halves::Flushing | Halves::FlushingAfterEof => Outbound::Finishing,
            Halves::Lingering | Halves::Over => Outbound::FinSent,
        }
    }

    /// The dialed connection is established.
    pub fn connected(&mut self) {
        debug_assert_eq!(*self, Halves::Dialing);
        *self = Halves::Open;
    }

    /// The peer has sent FIN.
    pub fn eof(&mut self) {
        *self = match *self {
            Halves::Dialing | Halves::Open | Halves::Paused | Halves::HalfClosed => Halves::HalfClosed,
            Halves::Flushing | Halves::FlushingAfterEof => Halves::FlushingAfterEof,
            Halves::Lingering | Halves::Over => Halves::Over,
        };
    }

    /// We will say no more. Says whether that is new.
    pub fn finish(&mut self) -> bool {
        let finished = match *self {
            Halves::Open | Halves::Paused => Halves::Flushing,
            Halves::HalfClosed => Halves::FlushingAfterEof,
            _ => return false,
        };
        *self = finished;
        true
    }

    /// Our FIN has been sent.
    pub fn fin_sent(&mut self) {
        debug_assert_eq!(self.outbound(), Outbound::Finishing);
        *self = if *self == Halves::FlushingAfterEof { Halves::Over } else { Halves::Lingering };
    }

    /// The service wants no input for now.
    pub fn pause(&mut self) {
        if *self == Halves::Open {
            *self = Halves::Paused;
        }
    }

    /// The service wants input again. Says whether that is new.
    pub fn resume(&mut self) -> bool {
        let paused = *self == Halves::Paused;
        if paused {
            *self = Halves::Open;
        }
        paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_table() {
        use {Inbound as I, Outbound as O};
        let table = [
            (Halves::Dialing, I::Open, O::Connecting),
            (Halves::Open, I::Open, O::Open),
            (Halves::Paused, I::Paused, O::Open),
            (Halves::HalfClosed, I::Eof, O::Open),
            (Halves::Flushing, I::Discarding, O::Finishing),
            (Halves::FlushingAfterEof, I::Eof, O::Finishing),
            (Halves::Lingering, I::Discarding, O::FinSent),
            (Halves::Over, I::Eof, O::FinSent),
        ];
        for (halves, inbound, outbound) in table {
            assert_eq!((halves.inbound(), halves.outbound()), (inbound, outbound), "{halves:?}");
        }
    }

    #[test]
    fn each_half_moves_forward_and_leaves_the_other_alone() {
        let all = [
            Halves::Dialing,
            Halves::Open,
            Halves::Paused,
            Halves::HalfClosed,
            Halves::Flushing,
            Halves::FlushingAfterEof,
            Halves::Lingering,
            Halves::Over,
        ];
        for before in all {
            let mut halves = before;
            if before != Halves::Dialing {
                halves.eof();
                assert_eq!((halves.inbound(), halves.outbound()), (Inbound::Eof, before.outbound()), "{before:?}");
            }
            let mut halves = before;
            assert_eq!(halves.finish(), before.outbound() == Outbound::Open, "{before:?}");
            if before.outbound() == Outbound::Open {
                let inbound = if before.inbound() == Inbound::Eof { Inbound::Eof } else { Inbound::Discarding };
                assert_eq!((halves.inbound(), halves.outbound()), (inbound, Outbound::Finishing), "{before:?}");
                halves.fin_sent();
                assert_eq!((halves.inbound(), halves.outbound()), (inbound, Outbound::FinSent), "{before:?}");
            }
        }
    }

    #[test]
    fn a_pause_ends_with_resume_or_with_the_connection() {
        let mut halves = Halves::Open;
        halves.pause();
        assert_eq!(halves, Halves::Paused);
        assert!(halves.resume() && !halves.resume());
        halves.pause();
        assert!(halves.finish());
        assert!(!halves.resume());
        assert_eq!(halves, Halves::Flushing);
    }
}
