//! A QUIC client, as far as it gets alone.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use quinn::{ClientConfig, Endpoint, crypto::rustls::QuicClientConfig};
use rustls::{RootCertStore, crypto::ring};

/// Long enough for the first packets, which need no answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Sends the first packets of a connection to `to` that asks for `name`.
pub(super) fn begin(to: SocketAddr, name: &str) -> Result<()> {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let endpoint = Endpoint::client(any.parse()?).context("cannot make a QUIC client")?;
        let connecting = endpoint.connect_with(config, to, name)?;
        ensure!(tokio::time::timeout(PATIENCE, connecting).await.is_err(), "somebody answered");
        Ok(())
    })?;
    super::generate::tell(&super::Facts::default())
}
