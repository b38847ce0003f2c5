//! Secrets that change on disk, as people, editors and Kubernetes change them.

use std::os::unix::fs::symlink;

use super::*;

struct Bench {
    credentials: Credentials,
    config: Arc<Config>,
    source: CredentialSource,
    folder: tempfile::TempDir,
}

/// One connection, `orders`, whose file does not exist yet.
fn bench() -> Bench {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("current").join("orders");
    let text =
        format!("connections: {{orders: {{allowedNamespaces: [shop], connectionStringFile: {}}}}}", path.display());
    let config = Arc::new(Config::parse(&text).expect("a good file"));
    let source = config.connections["orders"].source.clone();
    Bench { credentials: Credentials::new(KeyedHash::random()), config, source, folder }
}

fn connection(key: &str) -> String {
    format!("Endpoint=sb://orders.servicebus.windows.net;SharedAccessKeyName=n;SharedAccessKey={key}\n")
}

impl Bench {
    /// As the kubelet does it: a folder for each version, and a link that is swapped in one step.
    fn publish(&self, version: &str, content: &str) {
        let versioned = self.folder.path().join(version);
        std::fs::create_dir(&versioned).expect("the folder is writable");
        std::fs::write(versioned.join("orders"), content).expect("the folder is writable");
        let link = self.folder.path().join("new");
        symlink(&versioned, &link).expect("the folder is writable");
        std::fs::rename(link, self.folder.path().join("current")).expect("a link can be swapped");
    }

    /// The key in force after a look.
    async fn key(&self) -> Option<String> {
        use secrecy::ExposeSecret as _;
        self.credentials.look(&self.config, Duration::ZERO).await;
        match self.credentials.looked().credential(&self.source)? {
            Loaded::ConnectionString(connection) => connection.key().map(|key| key.expose_secret().to_owned()),
            Loaded::Identity { .. } => None,
        }
    }
}

#[tokio::test]
async fn a_file_that_appears_changes_and_breaks() {
    let bench = bench();
    assert_eq!(bench.key().await, None);
    bench.publish("1", &connection("first"));
    assert_eq!(bench.key().await.as_deref(), Some("first"));
    bench.publish("2", &connection("second"));
    assert_eq!(bench.key().await.as_deref(), Some("second"));
    for (version, broken) in [("3", ""), ("4", "Endpoint=sb://h"), ("5", "\u{fffd}"), ("6", "no pairs")] {
        bench.publish(version, broken);
        assert_eq!(bench.key().await.as_deref(), Some("second"), "{broken:?} changes nothing");
    }
    std::fs::remove_file(bench.folder.path().join("current")).expect("it is there");
    assert_eq!(bench.key().await.as_deref(), Some("second"), "a file that is gone changes nothing");
    bench.publish("7", &connection("third"));
    assert_eq!(bench.key().await.as_deref(), Some("third"));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_left_alone() {
    let bench = bench();
    bench.publish("1", &connection("first"));
    assert_eq!(bench.key().await.as_deref(), Some("first"));
    let path = bench.folder.path().join("current").join("orders");
    std::fs::write(&path, connection("half-of-the-new")).expect("the folder is writable");
    let look = bench.credentials.look(&bench.config, Duration::from_millis(100));
    let write_on = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        std::fs::write(&path, connection("half-of-the-new-key")).expect("the folder is writable");
    };
    tokio::join!(look, write_on);
    let Some(Loaded::ConnectionString(kept)) = bench.credentials.looked().credential(&bench.source) else {
        panic!("it was loaded")
    };
    assert_eq!(kept.key().map(secrecy::ExposeSecret::expose_secret), Some("first"));
    assert_eq!(bench.key().await.as_deref(), Some("half-of-the-new-key"), "the next look takes it");
}

#[tokio::test]
async fn who_holds_a_credential_hears_of_another_one_and_of_another_configuration() {
    let bench = bench();
    bench.publish("1", &connection("first"));
    let (handle, shutdown) = (ConfigHandle::new((*bench.config).clone()), CancellationToken::new());
    let mut changes = bench.credentials.changes();
    let following = bench.credentials.clone().follow(handle.clone(), Duration::from_millis(20), shutdown.clone());
    let following = tokio::spawn(following);
    let heard = async |changes: &mut watch::Receiver<()>| {
        let heard = tokio::time::timeout(Duration::from_secs(20), changes.changed()).await;
        heard.expect("in time").expect("it follows");
    };
    heard(&mut changes).await;
    bench.publish("2", &connection("second"));
    heard(&mut changes).await;
    let Some(Loaded::ConnectionString(now)) = bench.credentials.looked().credential(&bench.source) else {
        panic!("it is loaded")
    };
    assert_eq!(now.key().map(secrecy::ExposeSecret::expose_secret), Some("second"));
    handle.replace(Config::default());
    heard(&mut changes).await;
    shutdown.cancel();
    following.await.expect("no panic");
    assert!(!changes.has_changed().expect("it lives"), "looks that find nothing new are not news");
}

#[tokio::test]
async fn a_new_secret_is_a_new_digest_and_the_same_one_keeps_its_token() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("secret");
    let text = format!(
        "connections: {{app: {{allowedNamespaces: [shop], serviceBusNamespaces: [orders],
         clientSecret: {{tenantId: t, clientId: c, secretFile: {}}}}}}}",
        path.display()
    );
    let config = Arc::new(Config::parse(&text).expect("a good file"));
    let source = &config.connections["app"].source;
    let credentials = Credentials::new(KeyedHash::random());
    let mut digests = Vec::new();
    for secret in ["one\n", "one\n", "two\n"] {
        std::fs::write(&path, secret).expect("the folder is writable");
        credentials.look(&config, Duration::ZERO).await;
        let Some(Loaded::Identity { digest, .. }) = credentials.looked().credential(source) else {
            panic!("{secret:?} can be used")
        };
        digests.push(digest);
    }
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[1], digests[2]);
    credentials.look(&Arc::default(), Duration::ZERO).await;
    assert!(credentials.looked().credential(source).is_none(), "what the config does not name is forgotten");
}
