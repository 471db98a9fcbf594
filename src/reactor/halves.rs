//! TCP is full duplex: the two half-states of a connection.
//!
//! Owns: [`Inbound`], [`Outbound`] and the table of their pairs. Must not know: buffers, readiness, services.
//!
//! ```text
//!                     Outbound: Connecting     Open             Finishing          FinSent
//!   Inbound: Open               dialing        the usual        ·                  ·
//!            Paused             ·              service is busy  ·                  ·
//!            Discarding         ·              ·                flushing           lingering
//!            Eof                ·              half-closed      flushing           over: reap
//! ```
//!
//! The pairs marked `·` cannot be reached: `finish` makes an inbound half that is open or paused discard, and nothing
//! makes it open again. `Eof` stays `Eof`; `FinSent` stays `FinSent`.

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

/// The state of a connection: a pair of half-states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Halves {
    inbound: Inbound,
    outbound: Outbound,
}

impl Halves {
    /// An accepted connection.
    pub const OPEN: Halves = Halves {
        inbound: Inbound::Open,
        outbound: Outbound::Open,
    };
    /// A dialed connection.
    pub const CONNECTING: Halves = Halves {
        inbound: Inbound::Open,
        outbound: Outbound::Connecting,
    };

    /// The state from the peer to us.
    #[inline]
    pub const fn inbound(self) -> Inbound {
        self.inbound
    }

    /// The state from us to the peer.
    #[inline]
    pub const fn outbound(self) -> Outbound {
        self.outbound
    }

    /// Whether both sides have said everything.
    pub const fn over(self) -> bool {
        matches!(
            (self.inbound, self.outbound),
            (Inbound::Eof, Outbound::FinSent)
        )
    }

    /// The dialed connection is established.
    pub fn connected(&mut self) {
        debug_assert_eq!(self.outbound, Outbound::Connecting);
        self.outbound = Outbound::Open;
    }

    /// The peer has sent FIN.
    pub fn eof(&mut self) {
        self.inbound = Inbound::Eof;
    }

    /// We will say no more. Says whether that is new.
    pub fn finish(&mut self) -> bool {
        if !matches!(self.outbound, Outbound::Open | Outbound::Connecting) {
            return false;
        }
        self.outbound = Outbound::Finishing;
        if self.inbound != Inbound::Eof {
            self.inbound = Inbound::Discarding;
        }
        true
    }

    /// Our FIN has been sent.
    pub fn fin_sent(&mut self) {
        debug_assert_eq!(self.outbound, Outbound::Finishing);
        self.outbound = Outbound::FinSent;
    }

    /// The service wants no input for now.
    pub fn pause(&mut self) {
        if self.inbound == Inbound::Open {
            self.inbound = Inbound::Paused;
        }
    }

    /// The service wants input again. Says whether that is new.
    pub fn resume(&mut self) -> bool {
        let paused = self.inbound == Inbound::Paused;
        if paused {
            self.inbound = Inbound::Open;
        }
        paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pairs_of_the_table_can_be_reached() {
        let steps: [fn(&mut Halves); 6] = [
            |halves| {
                if halves.outbound() == Outbound::Connecting {
                    halves.connected();
                }
            },
            |halves| {
                // A socket that is still connecting cannot be read.
                if halves.outbound() != Outbound::Connecting {
                    halves.eof();
                }
            },
            |halves| {
                // The reactor aborts a connection that is finished before it was established.
                if halves.outbound() != Outbound::Connecting {
                    halves.finish();
                }
            },
            |halves| {
                if halves.outbound() == Outbound::Finishing {
                    halves.fin_sent();
                }
            },
            |halves| {
                if halves.outbound() != Outbound::Connecting {
                    halves.pause();
                }
            },
            |halves| {
                halves.resume();
            },
        ];
        let mut reached = vec![Halves::OPEN, Halves::CONNECTING];
        let mut next = 0;
        while next < reached.len() {
            for step in steps {
                let mut halves = reached[next];
                step(&mut halves);
                if !reached.contains(&halves) {
                    reached.push(halves);
                }
            }
            next += 1;
        }
        use {Inbound as I, Outbound as O};
        let table = [
            (I::Open, O::Connecting),
            (I::Open, O::Open),
            (I::Paused, O::Open),
            (I::Eof, O::Open),
            (I::Discarding, O::Finishing),
            (I::Eof, O::Finishing),
            (I::Discarding, O::FinSent),
            (I::Eof, O::FinSent),
        ];
        assert_eq!(reached.len(), table.len(), "{reached:?}");
        for (inbound, outbound) in table {
            assert!(
                reached.contains(&Halves { inbound, outbound }),
                "{inbound:?} {outbound:?}"
            );
        }
        assert!(
            Halves {
                inbound: I::Eof,
                outbound: O::FinSent
            }
            .over()
        );
    }
}
