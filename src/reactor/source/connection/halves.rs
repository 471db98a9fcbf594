//! TCP is full duplex: the two half-states of a connection.
//!
//! Owns: [`Inbound`], [`Outbound`], the table of their pairs, and the legal moves in it. Must not know: buffers,
//! readiness, services.
//!
//! ```text
//!                     Outbound: Connecting     Open            Finishing           FinSent
//!   Inbound: Open               Dialing        Open            Concluding          Concluded
//!            Paused             ·              Paused          ConcludingPaused    ConcludedPaused
//!            Discarding         ·              ·               Flushing            Lingering
//!            Eof                ·              HalfClosed      FlushingAfterEof    Over
//! ```
//!
//! Output ends in two ways. After `finish` the input of the peer is discarded, and nothing undoes that. After
//! `half_close` it is still delivered. The pairs marked `·` cannot be reached. `Eof` stays `Eof`; `FinSent` stays
//! `FinSent`. So [`Halves`] has a name for each reachable pair, and no value for the others.

/// From the peer to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inbound {
    /// Read, and handed to the service.
    Open,
    /// The service has paused its input.
    Paused,
    /// Read and discarded: the service has finished its output.
    Discarding,
    /// The peer has sent FIN.
    Eof,
}

/// From us to the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outbound {
    /// connect(2) was called and has not succeeded yet.
    Connecting,
    /// Bytes may be queued.
    Open,
    /// No more bytes may be queued. FIN follows the last one.
    Finishing,
    /// FIN was sent.
    FinSent,
}

/// The state of a connection: a reachable pair of half-states, by its name in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Halves {
    /// A dialed connection that is not established.
    Dialing,
    /// Both directions are open.
    Open,
    /// Both directions are open; the service has paused its input.
    Paused,
    /// The peer has sent FIN; our output is open.
    HalfClosed,
    /// Our output is complete, and a part of it is queued. Input is delivered.
    Concluding,
    /// `Concluding` with paused input.
    ConcludingPaused,
    /// Our FIN was sent. Input is delivered.
    Concluded,
    /// `Concluded` with paused input.
    ConcludedPaused,
    /// Our output is complete, and a part of it is queued. Input is discarded.
    Flushing,
    /// Both directions are complete, and a part of our output is queued.
    FlushingAfterEof,
    /// Our FIN was sent; the FIN of the peer has not come. Input is discarded.
    Lingering,
    /// Nothing passes any more: both directions are complete, or the connection has failed. It is reaped at the end of
    /// the turn.
    Over,
}

impl Halves {
    /// Returns the state from the peer to us.
    pub const fn inbound(self) -> Inbound {
        match self {
            Halves::Dialing | Halves::Open | Halves::Concluding | Halves::Concluded => Inbound::Open,
            Halves::Paused | Halves::ConcludingPaused | Halves::ConcludedPaused => Inbound::Paused,
            Halves::Flushing | Halves::Lingering => Inbound::Discarding,
            Halves::HalfClosed | Halves::FlushingAfterEof | Halves::Over => Inbound::Eof,
        }
    }

    /// Returns the state from us to the peer.
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

    /// Returns true if input goes to the service: it is read, and the service has not paused it.
    pub const fn delivers_input(self) -> bool {
        matches!(self, Halves::Open | Halves::Concluding | Halves::Concluded)
    }

    /// Returns true if input is read only to be discarded.
    pub const fn discards_input(self) -> bool {
        matches!(self, Halves::Flushing | Halves::Lingering)
    }

    /// Returns true if the service still decides about the connection: it is established and not finished.
    pub const fn service_decides(self) -> bool {
        !matches!(
            self,
            Halves::Dialing | Halves::Flushing | Halves::FlushingAfterEof | Halves::Lingering | Halves::Over
        )
    }

    /// Returns true if bytes may be queued, also before the connection is established.
    #[inline]
    pub const fn takes_output(self) -> bool {
        matches!(self, Halves::Open | Halves::Paused | Halves::HalfClosed | Halves::Dialing)
    }

    /// Returns the state after the FIN of the peer.
    pub const fn after_eof(self) -> Self {
        match self {
            Halves::Dialing | Halves::Open | Halves::Paused | Halves::HalfClosed => Halves::HalfClosed,
            Halves::Flushing | Halves::FlushingAfterEof | Halves::Concluding | Halves::ConcludingPaused => {
                Halves::FlushingAfterEof
            }
            Halves::Lingering | Halves::Over | Halves::Concluded | Halves::ConcludedPaused => Halves::Over,
        }
    }

    /// Returns the state after `finish`: no more output, and input is discarded.
    pub const fn after_finish(self) -> Self {
        match self {
            Halves::Open | Halves::Paused | Halves::Concluding | Halves::ConcludingPaused => Halves::Flushing,
            Halves::HalfClosed => Halves::FlushingAfterEof,
            Halves::Concluded | Halves::ConcludedPaused => Halves::Lingering,
            finished => finished,
        }
    }

    /// Returns the state after `half_close`: no more output, and input is delivered.
    pub const fn after_half_close(self) -> Self {
        match self {
            Halves::Open => Halves::Concluding,
            Halves::Paused => Halves::ConcludingPaused,
            Halves::HalfClosed => Halves::FlushingAfterEof,
            closed => closed,
        }
    }

    /// Returns the state after our FIN was sent.
    pub const fn after_fin(self) -> Self {
        match self {
            Halves::FlushingAfterEof => Halves::Over,
            Halves::Concluding => Halves::Concluded,
            Halves::ConcludingPaused => Halves::ConcludedPaused,
            Halves::Flushing => Halves::Lingering,
            sent => sent,
        }
    }

    /// Returns the state after `pause`.
    pub const fn after_pause(self) -> Self {
        match self {
            Halves::Open => Halves::Paused,
            Halves::Concluding => Halves::ConcludingPaused,
            Halves::Concluded => Halves::ConcludedPaused,
            other => other,
        }
    }

    /// Returns the state after `resume`.
    pub const fn after_resume(self) -> Self {
        match self {
            Halves::Paused => Halves::Open,
            Halves::ConcludingPaused => Halves::Concluding,
            Halves::ConcludedPaused => Halves::Concluded,
            other => other,
        }
    }

    /// Returns true if `next` may follow: each half moves forward in its column or row, except for pause and resume, and
    /// a failure leads to `Over` from everywhere.
    pub const fn may_become(self, next: Halves) -> bool {
        let inbound = match (self.inbound(), next.inbound()) {
            (Inbound::Open | Inbound::Paused, _) => true,
            (Inbound::Discarding, to) => matches!(to, Inbound::Discarding | Inbound::Eof),
            (Inbound::Eof, to) => matches!(to, Inbound::Eof),
        };
        let outbound = self.outbound() as u8 <= next.outbound() as u8 && !matches!(next, Halves::Dialing);
        inbound && outbound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [(Halves, Inbound, Outbound); 12] = {
        use {Inbound as I, Outbound as O};
        [
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
        ]
    };

    #[test]
    fn the_names_are_those_of_the_table() {
        for (halves, inbound, outbound) in TABLE {
            assert_eq!((halves.inbound(), halves.outbound()), (inbound, outbound), "{halves:?}");
        }
    }

    #[test]
    fn every_transition_is_a_legal_move() {
        for (before, ..) in TABLE {
            let next = [
                before.after_finish(),
                before.after_half_close(),
                before.after_fin(),
                before.after_pause(),
                before.after_resume(),
                Halves::Over,
            ];
            for next in next {
                assert!(next == before || before.may_become(next), "{before:?} cannot become {next:?}");
            }
            if before != Halves::Dialing {
                assert!(before.may_become(before.after_eof()), "{before:?}");
            }
        }
        for (before, next) in [
            (Halves::Lingering, Halves::Open),
            (Halves::Flushing, Halves::Paused),
            (Halves::HalfClosed, Halves::Open),
            (Halves::Concluded, Halves::Open),
            (Halves::Over, Halves::Lingering),
            (Halves::Open, Halves::Dialing),
        ] {
            assert!(!before.may_become(next), "{before:?} becomes {next:?}");
        }
    }

    #[test]
    fn each_half_moves_forward_and_leaves_the_other_alone() {
        for (before, inbound, outbound) in TABLE {
            if before != Halves::Dialing {
                let halves = before.after_eof();
                assert_eq!((halves.inbound(), halves.outbound()), (Inbound::Eof, outbound), "{before:?}");
            }
            let delivers = matches!(inbound, Inbound::Open | Inbound::Paused) && before != Halves::Dialing;
            let finishes = outbound == Outbound::Open || delivers;
            assert_eq!(before.after_finish() != before, finishes, "{before:?}");
            if outbound == Outbound::Open {
                let inbound = if inbound == Inbound::Eof { Inbound::Eof } else { Inbound::Discarding };
                let halves = before.after_finish();
                assert_eq!((halves.inbound(), halves.outbound()), (inbound, Outbound::Finishing), "{before:?}");
                let halves = halves.after_fin();
                assert_eq!((halves.inbound(), halves.outbound()), (inbound, Outbound::FinSent), "{before:?}");
            }
        }
    }

    #[test]
    fn a_half_close_delivers_the_input_of_the_peer_until_its_end() {
        for (before, inbound, outbound) in TABLE {
            let halves = before.after_half_close();
            assert_eq!(halves.inbound(), inbound, "{before:?}");
            if outbound == Outbound::Open {
                assert_eq!(halves.outbound(), Outbound::Finishing, "{before:?}");
                let halves = halves.after_fin();
                assert_eq!(halves.outbound(), Outbound::FinSent, "{before:?}");
                assert_eq!(halves.after_eof(), Halves::Over, "{before:?}");
            } else {
                assert_eq!(halves, before);
            }
        }
        let paused = Halves::Concluded.after_pause();
        assert_eq!(paused, Halves::ConcludedPaused);
        assert_eq!(paused.after_resume().after_finish(), Halves::Lingering);
    }

    #[test]
    fn a_pause_ends_with_resume_or_with_the_connection() {
        let paused = Halves::Open.after_pause();
        assert_eq!((paused, paused.after_resume()), (Halves::Paused, Halves::Open));
        let finished = paused.after_finish();
        assert_eq!((finished, finished.after_resume()), (Halves::Flushing, Halves::Flushing));
    }

    #[test]
    fn each_predicate_is_one_of_the_table() {
        for (halves, inbound, outbound) in TABLE {
            let established = halves != Halves::Dialing;
            assert_eq!(halves.delivers_input(), inbound == Inbound::Open && established, "{halves:?}");
            assert_eq!(halves.discards_input(), inbound == Inbound::Discarding, "{halves:?}");
            assert_eq!(halves.takes_output(), outbound == Outbound::Open || !established, "{halves:?}");
        }
    }
}
