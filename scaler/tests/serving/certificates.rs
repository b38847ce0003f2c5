//! Authorities and what they sign, made for one test.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use scaler::tls::TlsFiles;
use time::OffsetDateTime;

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("no names");
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(authority, key).expect("it signs itself"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a server on loopback.
    pub(crate) fn server(&self) -> Identity {
        self.identity(ExtendedKeyUsagePurpose::ServerAuth, 1)
    }

    /// For a client such as KEDA.
    pub(crate) fn client(&self) -> Identity {
        self.identity(ExtendedKeyUsagePurpose::ClientAuth, 1)
    }

    /// For a client, until yesterday.
    pub(crate) fn expired_client(&self) -> Identity {
        self.identity(ExtendedKeyUsagePurpose::ClientAuth, -1)
    }

    fn identity(&self, usage: ExtendedKeyUsagePurpose, valid_days: i64) -> Identity {
        let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a valid name");
        let now = OffsetDateTime::now_utc();
        leaf.not_before = now - time::Duration::days(2);
        leaf.not_after = now + time::Duration::days(valid_days);
        leaf.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf.signed_by(&key, &self.0).expect("the authority signs").pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    /// How a client trusts this authority, and shows `identity` if it has one.
    pub(crate) fn trusted_by(&self, identity: Option<&Identity>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a good authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("our own PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("our own PEM");
                builder.with_client_auth_cert(vec![certificate], key).expect("they belong together")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// The scaler's three files, in a folder of the test.
pub(crate) struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    /// Written for the first time.
    pub(crate) fn new(server: &Identity, client_authorities: &str) -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        files.write(server, client_authorities);
        files
    }

    /// Written over.
    pub(crate) fn write(&self, server: &Identity, client_authorities: &str) {
        let TlsFiles { certificate, key, client_authority } = self.paths();
        let client_authority = client_authority.expect("it is always given");
        for (path, text) in
            [(certificate, &*server.certificate), (key, &*server.key), (client_authority, client_authorities)]
        {
            testbench::replace(&path, text);
        }
    }

    pub(crate) fn paths(&self) -> TlsFiles {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        TlsFiles { certificate: path("tls.crt"), key: path("tls.key"), client_authority: Some(path("clients.crt")) }
    }
}
