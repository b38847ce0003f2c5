//! Certificates for one run: an authority, the scaler's certificate for this host's address, KEDA's as a client.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// PEM texts.
pub struct Certificates {
    pub authority: String,
    pub scaler: Pair,
    pub keda: Pair,
}

/// A certificate and its key.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Certificates {
    /// Makes all of them anew.
    pub fn generate(host: IpAddr) -> anyhow::Result<Self> {
        let mut parameters = parameters("e2e authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?).context("make an authority")?;
        let leaf = |name: &str, usage: ExtendedKeyUsagePurpose, address: Option<IpAddr>| -> anyhow::Result<Pair> {
            let mut parameters = self::parameters(name);
            parameters.extended_key_usages = vec![usage];
            parameters.subject_alt_names = address.into_iter().map(SanType::IpAddress).collect();
            let key = KeyPair::generate()?;
            let certificate = parameters.signed_by(&key, &authority).with_context(|| format!("sign {name}"))?;
            Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
        };
        let scaler = leaf("scaler", ExtendedKeyUsagePurpose::ServerAuth, Some(host))?;
        let keda = leaf("keda-operator", ExtendedKeyUsagePurpose::ClientAuth, None)?;
        Ok(Self { authority: authority.pem(), scaler, keda })
    }

    /// Writes what the scaler needs into a folder; returns its flags.
    pub fn scaler_flags(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let write = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            Ok(path)
        };
        let files = [
            ("--tls-cert", write("scaler.crt", &self.scaler.certificate)?),
            ("--tls-key", write("scaler.key", &self.scaler.key)?),
            ("--tls-client-ca", write("client-ca.crt", &self.authority)?),
        ];
        Ok(files.into_iter().flat_map(|(flag, path)| [flag.to_owned(), path.display().to_string()]).collect())
    }
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}
