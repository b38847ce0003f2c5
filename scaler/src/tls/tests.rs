//! Files that change while they are followed: right, wrong, and for how long a certificate is good.

use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;

use super::*;
use crate::metrics::Metrics;

/// Files of a test, in a folder of its own.
struct Bench {
    files: TlsFiles,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// With a certificate that is good for so many days.
    fn new(days: i64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles { certificate: path("tls.crt"), key: path("tls.key"), client_authority: None };
        let bench = Self { files, _folder: folder };
        bench.write(days);
        bench
    }

    /// Another certificate, good for so many days, with another key.
    fn write(&self, days: i64) -> OffsetDateTime {
        let mut certificate = CertificateParams::new(vec!["localhost".to_owned()]).expect("a valid name");
        // Certificates know whole seconds.
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).expect("a whole second");
        (certificate.not_before, certificate.not_after) = (now, now + time::Duration::days(days));
        let not_after = certificate.not_after;
        let key = KeyPair::generate().expect("a key");
        let certificate = certificate.self_signed(&key).expect("it signs itself");
        std::fs::write(&self.files.certificate, certificate.pem()).expect("the folder is writable");
        std::fs::write(&self.files.key, key.serialize_pem()).expect("the folder is writable");
        not_after
    }

    async fn look(&self, tls: &Tls) -> Looked {
        tls.look(&self.files, Duration::ZERO).await
    }
}

#[tokio::test]
async fn bad_files_change_nothing_and_are_refused_in_the_same_words_each_time() {
    let bench = Bench::new(1);
    let tls = Tls::read(&bench.files).expect("good files");
    let at_first = tls.current();
    let mut complaint = Complaint::default();
    let mut lines = Vec::new();
    let mut look = async || match bench.look(&tls).await {
        Looked::Refused(error) => {
            let problem = format!("{:#}", anyhow::Error::new(error));
            if complaint.is_worth_a_line(&problem, Look::Due) {
                lines.push(problem);
            }
            "refused"
        }
        Looked::Same => "same",
        Looked::Taken => "taken",
        Looked::Changing => "changing",
    };
    assert_eq!(look().await, "same");
    let another_key = KeyPair::generate().expect("a key").serialize_pem();
    for bad in ["not a key", "", &another_key] {
        std::fs::write(&bench.files.key, bad).expect("the folder is writable");
        for _ in 0..3 {
            assert_eq!(look().await, "refused", "{bad:?}");
        }
        assert!(Arc::ptr_eq(&tls.current(), &at_first), "{bad:?}");
    }
    std::fs::remove_file(&bench.files.key).expect("it is there");
    for _ in 0..3 {
        assert_eq!(look().await, "refused");
    }
    bench.write(1);
    assert_eq!(look().await, "taken");
    assert!(!Arc::ptr_eq(&tls.current(), &at_first), "good files are taken");
    assert_eq!(look().await, "same");

    let [no_key, mismatch, missing] = &lines[..] else { panic!("one line for each problem, got {lines:#?}") };
    assert!(no_key.contains("--tls-key") && no_key.contains("holds no private key in PEM form"), "{no_key}");
    assert!(mismatch.contains("--tls-cert") && mismatch.contains("--tls-key"), "{mismatch}");
    assert!(missing.contains("cannot read --tls-key") && missing.contains("No such file"), "{missing}");
    assert!(!lines.concat().contains("BEGIN"), "{lines:#?}");
}

#[tokio::test]
async fn files_that_change_before_they_are_followed_are_not_missed() {
    let bench = Bench::new(1);
    let tls = Tls::read(&bench.files).expect("good files");
    let at_first = tls.current();
    bench.write(1);
    let shutdown = CancellationToken::new();
    let interval = Duration::from_millis(20);
    let following = tokio::spawn(tls.clone().follow(bench.files.clone(), interval, None, shutdown.clone()));
    let taken = async {
        while Arc::ptr_eq(&tls.current(), &at_first) {
            tokio::time::sleep(interval).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.expect("they are taken");
    shutdown.cancel();
    following.await.expect("it ends");
}

#[tokio::test]
async fn the_metric_says_when_the_certificate_in_force_ends() {
    let bench = Bench::new(1);
    let tls = Tls::read(&bench.files).expect("good files");
    let metrics = Metrics::new();
    metrics.certificate_expiry({
        let tls = tls.clone();
        move || tls.expiry()
    });
    for days in [90, -1, 365 * 1_000] {
        let not_after = bench.write(days);
        assert!(
            matches!(bench.look(&tls).await, Looked::Taken),
            "also one that has ended is served: it is what there is"
        );
        let line =
            format!("servicebus_scaler_tls_certificate_expiry_timestamp_seconds {}\n", not_after.unix_timestamp());
        assert!(metrics.exposition().contains(&line), "{line}");
    }
}
