//! What the log says of connections that are not served: a cause that anybody outside can bring about a thousand times a
//! second is told ten times a minute, and hides none of the others. Owns the shares of the log.

use crate::log_rate::LogRate;

/// Why a connection is not served.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    /// The system has nothing left to accept it with.
    NotAccepted,
    /// All TLS handshakes are taken.
    Handshakes,
    /// No TLS was agreed on. Probes that only connect are among these.
    Tls,
    /// All places are taken.
    Places,
}

/// One share of the log for each cause.
#[derive(Debug, Default)]
pub(crate) struct RefusedLog([LogRate; 4]);

impl RefusedLog {
    /// Whether a line is in order now, and if so how many of this cause were left out since the last one.
    pub(super) fn turn(&self, cause: Cause) -> Option<u64> {
        self.0[cause as usize].turn()
    }

    /// Tells how many lines were left out and have no later one to say so. Whoever runs the server calls this now and then.
    pub(crate) fn tidy(&self) {
        for cause in [Cause::NotAccepted, Cause::Handshakes, Cause::Tls, Cause::Places] {
            let unlogged = self.0[cause as usize].take_unlogged();
            if unlogged > 0 {
                tracing::warn!(?cause, unlogged, "more connections were not served for the same cause");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_cause_hides_no_other_and_what_it_left_out_is_told() {
        let log = RefusedLog::default();
        let probes = (0..100).filter_map(|_| log.turn(Cause::Tls)).count();
        assert_eq!(probes, 10);
        assert_eq!(log.turn(Cause::NotAccepted), Some(0));
        assert_eq!(log.turn(Cause::Places), Some(0));
        log.tidy();
        assert_eq!(log.0[Cause::Tls as usize].take_unlogged(), 0, "it was told");
    }
}
