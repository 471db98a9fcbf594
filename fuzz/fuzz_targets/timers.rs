//! Any order of insertion, cancellation and waiting: the wheel fires the timers of a sorted list, in its order, and never
//! early.
//!
//! Each operation is four bytes: its kind, an exponent, and a number that the exponent scales.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reactor::timer::{Tick, TimerId, Wheel};

fuzz_target!(|input: &[u8]| {
    let mut wheel = Wheel::new(Tick(0));
    // In the order of their times; equal times in the order of insertion.
    let mut waiting: Vec<(u64, u32, TimerId)> = Vec::new();
    let (mut now, mut serial) = (0u64, 0u32);
    for operation in input.chunks_exact(4) {
        let &[which, exponent, high, low] = operation else { continue };
        let number = u64::from(u16::from_be_bytes([high, low]));
        let span = number.checked_shl(u32::from(exponent % 64)).unwrap_or(0);
        match which % 4 {
            0 | 1 => {
                let at = if which & 0x80 == 0 { now.saturating_add(span) } else { now.saturating_sub(span) };
                let id = wheel.insert(Tick(at), serial);
                let place = waiting.partition_point(|entry| entry.0 <= at.max(now));
                waiting.insert(place, (at.max(now), serial, id));
                serial += 1;
            }
            2 if !waiting.is_empty() => {
                let (_, _, id) = waiting.remove(number as usize % waiting.len());
                assert!(wheel.cancel(id));
                assert!(!wheel.cancel(id), "cancelled twice");
            }
            _ => {
                now = now.saturating_add(span);
                let due = waiting.partition_point(|entry| entry.0 <= now);
                for (_, expected, _) in waiting.drain(..due) {
                    assert_eq!(wheel.expire(Tick(now)), Some(expected));
                }
                assert_eq!(wheel.expire(Tick(now)), None, "fired before its time");
                match waiting.first() {
                    Some((at, ..)) => {
                        let next = wheel.next_expiry().expect("some are set");
                        assert!(now < next.0 && next.0 <= *at, "would sleep until {next:?}, past {at}");
                    }
                    None => assert_eq!(wheel.next_expiry(), None),
                }
            }
        }
        assert_eq!(wheel.len(), waiting.len());
    }
});
