//! The answers do not depend on the pieces in which a request arrives. Without a socket, every split can be tried.

use super::answer::answers;
use super::converse::converse;
use super::samples::samples;

/// Splits a sample into single bytes, and the middle of a long sample into larger pieces. Most of its bytes are alike, and
/// the parser begins anew with each piece of a head.
fn bytewise(bytes: &[u8]) -> Vec<&[u8]> {
    let (front, rest) = bytes.split_at(bytes.len().min(600));
    let (middle, end) = rest.split_at(rest.len().saturating_sub(200));
    front.chunks(1).chain(middle.chunks(499)).chain(end.chunks(1)).collect()
}

#[test]
fn every_request_has_the_same_answer_in_any_pieces() {
    for sample in samples() {
        let text = String::from_utf8_lossy(&sample.bytes);
        let shown = text.chars().take(300).collect::<String>();
        let (output, is_over) = converse([&sample.bytes[..]]);
        let statuses: Vec<_> = answers(&output, false).iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, sample.statuses, "{shown:?}");
        assert_eq!(is_over, sample.ends, "{shown:?}");
        let whole = (output, is_over);
        assert!(converse(bytewise(&sample.bytes)) == whole, "{shown:?} byte by byte");
        let step = (sample.bytes.len() / 400).max(1);
        for at in (1..sample.bytes.len()).step_by(step) {
            let (front, back) = sample.bytes.split_at(at);
            assert!(converse([front, back]) == whole, "{shown:?} split at {at}");
        }
    }
}

/// A generator of pseudo-random numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    /// Returns samples cut, mixed and with changed bytes, or noise alone.
    fn bytes(&mut self, samples: &[Vec<u8>]) -> Vec<u8> {
        const SIGNS: &[u8] = b"\r\n\r\n :;,/0159afGHh\t\0\x7f\x80\xff";
        let mut bytes = Vec::new();
        for _ in 0..self.roll(4) {
            let sample = &samples[self.roll(samples.len())];
            let (from, to) = (self.roll(sample.len() + 1), self.roll(sample.len() + 1));
            match self.roll(3) {
                0 => bytes.extend_from_slice(sample),
                1 => bytes.extend_from_slice(&sample[from.min(to)..from.max(to)]),
                _ => bytes.extend((0..self.roll(200)).map(|_| SIGNS[self.roll(SIGNS.len())])),
            }
        }
        for _ in 0..self.roll(4) {
            if !bytes.is_empty() {
                let at = self.roll(bytes.len());
                bytes[at] = SIGNS[self.roll(SIGNS.len())];
            }
        }
        bytes
    }
}

#[test]
fn any_bytes_have_the_same_answers_in_any_pieces_and_no_more_than_requests() {
    // The parser of the answers does not know which answer belongs to HEAD. Long samples would take too long.
    let samples: Vec<_> = samples().into_iter().map(|sample| sample.bytes).filter(|bytes| bytes.len() < 1000).collect();
    let mut dice = Dice(1);
    let mut seen = [0; 600];
    for round in 0..40_000 {
        let bytes = dice.bytes(&samples);
        let shown = || format!("round {round}: {:?}", String::from_utf8_lossy(&bytes));
        let whole = converse([&bytes[..]]);
        let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(1 + dice.roll(rest.len().min(60)));
            pieces.push(piece);
            rest = behind;
        }
        assert!(converse(pieces) == whole, "{}", shown());
        let answers = answers(&whole.0, false);
        // A request ends with an empty line, except for a refused request, which is the last.
        let asked = bytes.windows(4).filter(|four| four == b"\r\n\r\n").count() + 1;
        let finals = answers.iter().filter(|answer| answer.status != 100);
        assert!(finals.clone().count() <= asked, "{}", shown());
        for answer in finals.clone().take(finals.clone().count().saturating_sub(1)) {
            assert!(!answer.closes() && matches!(answer.status, 200 | 404 | 405), "{}", shown());
        }
        answers.iter().for_each(|answer| seen[usize::from(answer.status)] += 1);
    }
    // The noise has to reach every kind of answer.
    for status in [100, 200, 400, 404, 405, 413, 501, 505] {
        assert!(seen[status] > 10, "{status} came {} times", seen[status]);
    }
}
