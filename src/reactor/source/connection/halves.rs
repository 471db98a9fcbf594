//! TCP is full duplex: the two half-states of a connection.
//!
//! Owns: [`Inbound`], [`Outbound`] and the table of their pairs. Must not know: buffers, readiness, services.
//!
//! ```text
//!                     Outbound: Connecting     Open            Finishing           FinSent
//!   Inbound: Open               Dialing        Open            Concluding          Concluded
//!            Paused             ·              Paused          ConcludingPaused    ConcludedPaused
//!            Discarding         ·              ·               Flushing            Lingering
//!            Eof                ·              HalfClosed      FlushingAfterEof    Over
//! ```
//!
//! There are two last words: after `finish` what the peer still says is discarded, and nothing makes that undone; after
//! `half_close` it is still heard. The pairs marked `·` cannot be reached. `Eof` stays `Eof`; `FinSent` stays `FinSent`.
//! So [`Halves`] has a name for each that can, and no value for the others.

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
    /// We have said everything; some of it is queued. The peer may speak and is heard.
    Concluding,
    /// The same, while the service does not listen.
    ConcludingPaused,
    /// Our FIN has been sent; the peer may speak and is heard.
    Concluded,
    /// The same, while the service does not listen.
    ConcludedPaused,
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
            Halves::Dialing | Halves::Open | Halves::Concluding | Halves::Concluded => Inbound::Open,
            Halves::Paused | Halves::ConcludingPaused | Halves::ConcludedPaused => Inbound::Paused,
            Halves::Flushing | Halves::Lingering => Inbound::Discarding,
            Halves::HalfClosed | Halves::FlushingAfterEof | Halves::Over => Inbound::Eof,
        }
    }

    /// The state from us to the peer.
    pub const fn outbound(self) -> Outbound {
        match self {
            Halves::Dialing => Outbound::Connecting,
            Halves::Open | Halves::Paused | Halves::HalfClosed => Outbound::Open,
            Halves::Flushing | Halves::FlushingAfterEof | Halves::Concluding | Halves::ConcludingPaused => {
                Outbound::Finishing
            }
            Halves::Lingering | Halves::Over | Halves::Concluded | Halves::ConcludedPaused => Outbound::FinSent,
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
            Halves::Flushing | Halves::FlushingAfterEof | Halves::Concluding | Halves::ConcludingPaused => {
                Halves::FlushingAfterEof
            }
            Halves::Lingering | Halves::Over | Halves::Concluded | Halves::ConcludedPaused => Halves::Over,
        };
    }

    /// We will say no more, and hear no more. Says whether that is new.
    pub fn finish(&mut self) -> bool {
        let finished = match *self {
            Halves::Open | Halves::Paused | Halves::Concluding | Halves::ConcludingPaused => Halves::Flushing,
            Halves::HalfClosed => Halves::FlushingAfterEof,
            Halves::Concluded | Halves::ConcludedPaused => Halves::Lingering,
            _ => return false,
        };
        *self = finished;
        true
    }

    /// We will say no more, and go on listening.
    pub fn half_close(&mut self) {
        *self = match *self {
            Halves::Open => Halves::Concluding,
            Halves::Paused => Halves::ConcludingPaused,
            Halves::HalfClosed => Halves::FlushingAfterEof,
            said => said,
        };
    }

    /// Our FIN has been sent.
    pub fn fin_sent(&mut self) {
        debug_assert_eq!(self.outbound(), Outbound::Finishing);
        *self = match *self {
            Halves::FlushingAfterEof => Halves::Over,
            Halves::Concluding => Halves::Concluded,
            Halves::ConcludingPaused => Halves::ConcludedPaused,
            _ => Halves::Lingering,
        };
    }

    /// The service wants no input for now.
    pub fn pause(&mut self) {
        *self = match *self {
            Halves::Open => Halves::Paused,
            Halves::Concluding => Halves::ConcludingPaused,
            Halves::Concluded => Halves::ConcludedPaused,
            deaf => deaf,
        };
    }

    /// The service wants input again. Says whether that is new.
    pub fn resume(&mut self) -> bool {
        *self = match *self {
            Halves::Paused => Halves::Open,
            Halves::ConcludingPaused => Halves::Concluding,
            Halves::ConcludedPaused => Halves::Concluded,
            _ => return false,
        };
        true
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
            (Halves::Concluding, I::Open, O::Finishing),
            (Halves::ConcludingPaused, I::Paused, O::Finishing),
            (Halves::Concluded, I::Open, O::FinSent),
            (Halves::ConcludedPaused, I::Paused, O::FinSent),
            (Halves::Flushing, I::Discarding, O::Finishing),
            (Halves::FlushingAfterEof, I::Eof, O::Finishing),
            (Halves::Lingering, I::Discarding, O::FinSent),
            (Halves::Over, I::Eof, O::FinSent),
        ];
        for (halves, inbound, outbound) in table {
            assert_eq!((halves.inbound(), halves.outbound()), (inbound, outbound), "{halves:?}");
        }
    }

    const ALL: [Halves; 12] = [
        Halves::Dialing,
        Halves::Open,
        Halves::Paused,
        Halves::HalfClosed,
        Halves::Concluding,
        Halves::ConcludingPaused,
        Halves::Concluded,
        Halves::ConcludedPaused,
        Halves::Flushing,
        Halves::FlushingAfterEof,
        Halves::Lingering,
        Halves::Over,
    ];

    #[test]
    fn each_half_moves_forward_and_leaves_the_other_alone() {
        for before in ALL {
            let mut halves = before;
            if before != Halves::Dialing {
                halves.eof();
                assert_eq!((halves.inbound(), halves.outbound()), (Inbound::Eof, before.outbound()), "{before:?}");
            }
            let mut halves = before;
            let heard = matches!(before.inbound(), Inbound::Open | Inbound::Paused) && before != Halves::Dialing;
            assert_eq!(halves.finish(), before.outbound() == Outbound::Open || heard, "{before:?}");
            if before.outbound() == Outbound::Open {
                let inbound = if before.inbound() == Inbound::Eof { Inbound::Eof } else { Inbound::Discarding };
                assert_eq!((halves.inbound(), halves.outbound()), (inbound, Outbound::Finishing), "{before:?}");
                halves.fin_sent();
                assert_eq!((halves.inbound(), halves.outbound()), (inbound, Outbound::FinSent), "{before:?}");
            }
        }
    }

    #[test]
    fn a_half_close_leaves_the_peer_heard_until_its_end() {
        for before in ALL {
            let mut halves = before;
            halves.half_close();
            assert_eq!(halves.inbound(), before.inbound(), "{before:?}");
            if before.outbound() == Outbound::Open {
                assert_eq!(halves.outbound(), Outbound::Finishing, "{before:?}");
                halves.fin_sent();
                assert_eq!(halves.outbound(), Outbound::FinSent, "{before:?}");
                halves.eof();
                assert_eq!(halves, Halves::Over, "{before:?}");
            } else {
                assert_eq!(halves, before);
            }
        }
        let mut halves = Halves::Concluded;
        halves.pause();
        assert_eq!(halves, Halves::ConcludedPaused);
        assert!(halves.resume() && halves.finish());
        assert_eq!(halves, Halves::Lingering);
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
