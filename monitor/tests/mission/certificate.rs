//! The collecting server's certificate, and why the browser trusts it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// A fresh self-signed certificate. The browser is told the hash of its public key
/// (`--ignore-certificate-errors-spki-list`), so no certificate store of the machine is touched.
pub(crate) struct Certificate {
    /// The certificate, PEM.
    pub(crate) file: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
    /// SHA-256 of the `SubjectPublicKeyInfo`, base64.
    pub(crate) public_key_hash: String,
}

impl Certificate {
    /// For the host `name`, with files in `folder`.
    pub(crate) fn new(folder: &Path, name: &str) -> Result<Self> {
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        let mut request = Command::new("openssl");
        request.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
        request.args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")]);
        output(request.arg("-out").arg(&certificate).arg("-keyout").arg(&key), b"")?;
        let public_key =
            output(Command::new("openssl").args(["x509", "-pubkey", "-noout", "-in"]).arg(&certificate), b"")?;
        let encoded = output(Command::new("openssl").args(["pkey", "-pubin", "-outform", "der"]), &public_key)?;
        let hash = output(Command::new("openssl").args(["dgst", "-sha256", "-binary"]), &encoded)?;
        let text = output(Command::new("openssl").args(["base64", "-A"]), &hash)?;
        let public_key_hash = String::from_utf8(text)?.trim().to_owned();
        Ok(Self { file: certificate, key, public_key_hash })
    }
}

/// Runs a command and returns its standard output. The inputs are short enough for a pipe.
fn output(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start openssl")?;
    child.stdin.take().context("openssl has no standard input")?.write_all(input)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
