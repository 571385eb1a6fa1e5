//! TLS towards receivers: the `tls` table of an output, and what it is made into.
//!
//! Files are read when a connection needs them, so a renewed certificate works from the next connection on.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject as _},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// How to trust a receiver and what to show it: the `tls` table of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// File with the certificates (PEM) of the authorities that the receiver's certificate must come from. The system's
    /// authorities if unset.
    #[serde(deserialize_with = "absolute_path", skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/egresswatch/tls/ca.pem")]
    pub ca: Option<PathBuf>,
    /// File with this host's certificate (PEM), the intermediate ones behind it, for receivers that ask for one.
    #[serde(deserialize_with = "absolute_path", skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/egresswatch/tls/host.pem")]
    pub certificate: Option<PathBuf>,
    /// File with the private key (PEM) of `certificate`.
    #[serde(deserialize_with = "absolute_path", skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/egresswatch/tls/host.key")]
    pub key: Option<PathBuf>,
    /// Name or address that the receiver's certificate must be for, if it is not the one in the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "siem.example.com")]
    pub server_name: Option<String>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}, named by tls.{setting}: {source}", path.display())]
    Unreadable {
        /// The key of the `tls` table.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what its setting needs.
    #[error("{}, named by tls.{setting}, {problem}: write {} there", path.display(), wanted(setting))]
    Unusable {
        /// The key of the `tls` table.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// One of `certificate` and `key` without the other.
    #[error("tls.{given} is set and tls.{missing} is not: a client certificate needs both")]
    Half {
        /// The key that is there.
        given: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// Certificate and key are not of each other.
    #[error("the certificate {} and the key {} do not go together: {source}", certificate.display(), key.display())]
    Mismatch {
        /// `tls.certificate`.
        certificate: PathBuf,
        /// `tls.key`.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The system has no authorities.
    #[error(
        "this system has no certificate authorities{detail}: install the package ca-certificates, or name a file in tls.ca"
    )]
    NoSystemAuthorities {
        /// What went wrong when they were read, or nothing.
        detail: String,
    },
    /// Not a name that a certificate can be for.
    #[error("`{0}` is neither a host name nor an IP address: write one in tls.server_name")]
    ServerName(String),
    /// rustls refuses the settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl TlsConfig {
    /// A client's settings from the files as they are now, with rustls' safe defaults (TLS 1.2 and 1.3) and ring.
    pub fn client(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.authorities()?);
        let (certificate, key) = match (&self.certificate, &self.key) {
            (None, None) => return Ok(builder.with_no_client_auth()),
            (Some(_), None) => return Err(TlsError::Half { given: "certificate", missing: "key" }),
            (None, Some(_)) => return Err(TlsError::Half { given: "key", missing: "certificate" }),
            (Some(certificate), Some(key)) => (certificate, key),
        };
        let chain = certificates("certificate", certificate)?;
        let private_key = PrivateKeyDer::from_pem_slice(&read("key", key)?)
            .map_err(|error| unusable("key", key, &pem_problem(&error, "private key")))?;
        builder.with_client_auth_cert(chain, private_key).map_err(|source| TlsError::Mismatch {
            certificate: certificate.clone(),
            key: key.clone(),
            source,
        })
    }

    /// The name that the receiver's certificate must be for: `server_name`, else `host`.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
    }

    fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        if let Some(path) = &self.ca {
            for certificate in certificates("ca", path)? {
                store.add(certificate).map_err(|error| unusable("ca", path, &format!("is no authority ({error})")))?;
            }
            return Ok(store);
        }
        let native = rustls_native_certs::load_native_certs();
        let (added, _) = store.add_parsable_certificates(native.certs);
        if added == 0 {
            let detail = native.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(TlsError::NoSystemAuthorities { detail });
        }
        Ok(store)
    }

    /// What tells that a file was replaced.
    fn stamps(&self) -> Vec<Option<Stamp>> {
        [&self.ca, &self.certificate, &self.key].into_iter().map(|path| path.as_deref().and_then(stamp)).collect()
    }
}

/// A [`TlsConfig`] with its files read, read again when one of them changed.
#[derive(Debug)]
pub struct TlsClient {
    config: TlsConfig,
    loaded: Option<(Vec<Option<Stamp>>, Arc<ClientConfig>)>,
}

impl TlsClient {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(config: TlsConfig) -> Self {
        Self { config, loaded: None }
    }

    /// The settings for the next connection.
    pub fn current(&mut self) -> Result<Arc<ClientConfig>, TlsError> {
        let stamps = self.config.stamps();
        if let Some((known, client)) = &self.loaded
            && *known == stamps
        {
            return Ok(Arc::clone(client));
        }
        let mut client = self.config.client()?;
        // Receivers on OpenSSL that ask for a certificate without setting a session context break off resumed sessions.
        client.resumption = Resumption::disabled();
        let client = Arc::new(client);
        self.loaded = Some((stamps, Arc::clone(&client)));
        Ok(client)
    }

    /// The name that the receiver's certificate must be for.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        self.config.server_name(host)
    }

    /// Reads the files again at the next connection, whether they changed or not.
    pub fn forget(&mut self) {
        self.loaded = None;
    }
}

/// What to do about a failed connection, where TLS or the kernel says what is wrong.
#[must_use]
pub fn advice(error: &io::Error) -> Option<&'static str> {
    if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) {
        return Some("the unit may not use the network: install deploy/systemd/network-outputs.conf");
    }
    let inner = error.get_ref()?;
    // HTTP clients wrap the error of the connection into one more.
    if let Some(error) = inner.downcast_ref() {
        return advice(error);
    }
    let error = inner.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the receiver's certificate, or set this host's clock"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "set this host's clock, or the receiver's certificate is from the future"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "write the name that the certificate is for in tls.server_name, or in the address"
            }
            // The latter where the authority has the name of one in tls.ca, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "name the authority of the receiver's certificate in tls.ca"
            }
            _ => "give the receiver a certificate that is valid for a TLS server",
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "the receiver finds the certificate in tls.certificate expired: renew it"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure) => {
            "the receiver may want a client certificate: set tls.certificate and tls.key"
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            // Where the authority has the name of one that the receiver knows, and another key.
            | AlertDescription::DecryptError,
        ) => "the receiver does not accept the certificate in tls.certificate: let an authority sign it that it knows",
        rustls::Error::InvalidMessage(_) => "the receiver does not speak TLS at this port",
        _ => return None,
    })
}

/// [`advice`] on the first of the causes of `error` for which there is one.
pub(super) fn advice_on_cause(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(advice) = error.downcast_ref().and_then(advice) {
            return Some(advice);
        }
        cause = error.source();
    }
    None
}

/// Device, inode, size, and time of the last change of content.
type Stamp = (u64, u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = read(setting, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(setting, path, "holds no certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(setting, path, &pem_problem(&error, "certificate"))),
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable { setting, path: path.to_owned(), source })
}

fn unusable(setting: &'static str, path: &Path, problem: &str) -> TlsError {
    TlsError::Unusable { setting, path: path.to_owned(), problem: problem.to_owned() }
}

fn pem_problem(error: &pem::Error, noun: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("holds no {noun}"),
        // Its text may quote the file, and the file may be a key.
        _ => "is no PEM".to_owned(),
    }
}

fn wanted(setting: &str) -> &'static str {
    match setting {
        "key" => "a private key in PEM (PKCS #8, PKCS #1 or SEC1) without a passphrase",
        _ => "one certificate or more in PEM",
    }
}

fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    match Option::<PathBuf>::deserialize(deserializer)? {
        Some(path) if !path.is_absolute() => {
            Err(D::Error::custom(format!("`{}` is relative: write an absolute path", path.display())))
        }
        path => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io, path::Path, sync::Arc};

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::CertificateError;

    use super::{TlsClient, TlsConfig, advice, advice_on_cause};

    #[test]
    fn advice_is_found_below_what_wraps_the_error() {
        let forbidden = || io::Error::from_raw_os_error(nix::libc::EAFNOSUPPORT);
        let expired = || {
            let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
            io::Error::new(io::ErrorKind::InvalidData, expired)
        };
        let unit = "the unit may not use the network: install deploy/systemd/network-outputs.conf";
        assert_eq!(advice(&forbidden()), Some(unit));
        assert_eq!(advice_on_cause(&io::Error::other(forbidden())), Some(unit));
        let renew = "renew the receiver's certificate, or set this host's clock";
        assert_eq!(advice(&expired()), Some(renew));
        assert_eq!(advice_on_cause(&io::Error::other(io::Error::other(expired()))), Some(renew));
        assert_eq!(advice(&io::Error::other("something else")), None);
    }

    /// A folder with `cert.pem`, `key.pem`, `other.key` and `empty.pem`.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let make = || generate_simple_self_signed(["siem.example.com".to_owned()]).expect("a certificate");
        let CertifiedKey { cert, signing_key } = make();
        let files = [
            ("cert.pem", cert.pem()),
            ("key.pem", signing_key.serialize_pem()),
            ("other.key", make().signing_key.serialize_pem()),
            ("empty.pem", "nothing".to_owned()),
        ];
        for (name, content) in files {
            fs::write(folder.path().join(name), content).expect("a file");
        }
        folder
    }

    fn config(folder: &Path, ca: Option<&str>, certificate: Option<&str>, key: Option<&str>) -> TlsConfig {
        let path = |name: Option<&str>| name.map(|name| folder.join(name));
        TlsConfig { ca: path(ca), certificate: path(certificate), key: path(key), server_name: None }
    }

    #[test]
    fn good_files_make_a_client_and_bad_ones_are_named() {
        let folder = folder();
        let made = |ca, certificate, key| config(folder.path(), ca, certificate, key).client();
        made(Some("cert.pem"), None, None).expect("an authority alone");
        made(Some("cert.pem"), Some("cert.pem"), Some("key.pem")).expect("a client certificate");
        for (ca, certificate, key, complaint) in [
            ("none.pem", None, None, "none.pem, named by tls.ca: No such file"),
            (
                "empty.pem",
                None,
                None,
                "empty.pem, named by tls.ca, holds no certificate: write one certificate or more",
            ),
            ("cert.pem", Some("cert.pem"), None, "tls.certificate is set and tls.key is not"),
            ("cert.pem", None, Some("key.pem"), "tls.key is set and tls.certificate is not"),
            (
                "cert.pem",
                Some("cert.pem"),
                Some("cert.pem"),
                "named by tls.key, holds no private key: write a private key",
            ),
            ("cert.pem", Some("cert.pem"), Some("other.key"), "do not go together"),
        ] {
            let error = made(Some(ca), certificate, key).expect_err(complaint).to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn a_replaced_file_is_read_again_and_the_same_one_is_not() {
        let folder = folder();
        let mut client = TlsClient::new(config(folder.path(), Some("cert.pem"), None, None));
        let first = client.current().expect("a client");
        assert!(Arc::ptr_eq(&first, &client.current().expect("a client")));
        fs::copy(folder.path().join("cert.pem"), folder.path().join("new.pem")).expect("a copy");
        fs::rename(folder.path().join("new.pem"), folder.path().join("cert.pem")).expect("a new file");
        assert!(!Arc::ptr_eq(&first, &client.current().expect("a client")));
    }

    #[test]
    fn the_name_to_check_is_the_one_configured_or_the_host() {
        let mut config = TlsConfig::default();
        assert_eq!(config.server_name("192.0.2.1").expect("an address").to_str(), "192.0.2.1");
        config.server_name = Some("siem.example.com".to_owned());
        assert_eq!(config.server_name("192.0.2.1").expect("a name").to_str(), "siem.example.com");
        config.server_name = Some("not a name".to_owned());
        let error = config.server_name("192.0.2.1").expect_err("no name").to_string();
        assert_eq!(error, "`not a name` is neither a host name nor an IP address: write one in tls.server_name");
    }
}
