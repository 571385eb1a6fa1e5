//! OTLP over gRPC.

use std::{fs, path::Path, time::Duration};

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_client::LogsServiceClient,
};
use prost::Message;
use tonic::{
    Code, Request, Status,
    metadata::{KeyAndValueRef, MetadataMap},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::OtlpConfig;
use crate::sink::{
    delivery::Failure,
    http::{OpenError, Problem, USER_AGENT, slow},
    tls::advice_on_cause,
};

/// A connection to a collector.
#[derive(Debug)]
pub(super) struct Grpc {
    config: OtlpConfig,
    client: Option<LogsServiceClient<Channel>>,
}

impl Grpc {
    /// Checks the settings without connecting.
    pub(super) fn open(config: &OtlpConfig) -> Result<Self, OpenError> {
        config.tls.client()?;
        endpoint(config)?;
        Ok(Self { config: config.clone(), client: None })
    }

    pub(super) fn reopen(&mut self) {
        self.client = None;
    }

    pub(super) async fn export(
        &mut self,
        request: ExportLogsServiceRequest,
    ) -> Result<ExportLogsServiceResponse, Problem> {
        let mut request = Request::new(request);
        *request.metadata_mut() = MetadataMap::from_headers(self.config.headers.read()?);
        request.set_timeout(self.config.timeout.get());
        let secrets = secrets_of(request.metadata());
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.connect().await?,
        };
        match tokio::time::timeout(self.config.timeout.get(), client.export(request)).await {
            Ok(Ok(response)) => {
                self.client = Some(client);
                Ok(response.into_inner())
            }
            Ok(Err(status)) => Err(problem(&status, &secrets)),
            Err(_) => Err(Failure::new(format!("no answer within {}", self.config.timeout)).into()),
        }
    }

    /// With the files as they are now.
    async fn connect(&self) -> Result<LogsServiceClient<Channel>, Failure> {
        let endpoint = endpoint(&self.config).map_err(|error| slow(error.to_string()))?;
        let channel =
            endpoint.connect().await.map_err(|error| Failure::new(format!("cannot connect: {}", explained(&error))))?;
        Ok(LogsServiceClient::new(channel))
    }
}

fn endpoint(config: &OtlpConfig) -> Result<Endpoint, OpenError> {
    let client_error = |error: tonic::transport::Error| OpenError::Client(deepest(&error));
    let timeout = config.timeout.get();
    let mut endpoint = Endpoint::from_shared(config.url.as_str().to_owned())
        .map_err(client_error)?
        .user_agent(USER_AGENT)
        .map_err(client_error)?
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .timeout(timeout);
    if config.url.is_tls() {
        let mut tls = ClientTlsConfig::new();
        tls = match &config.tls.ca {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (&config.tls.certificate, &config.tls.key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(name) = &config.tls.server_name {
            tls = tls.domain_name(name);
        }
        endpoint = endpoint.tls_config(tls).map_err(client_error)?;
    }
    Ok(endpoint)
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    fs::read(path).map_err(|error| OpenError::Settings(format!("cannot read {}: {error}", path.display())))
}

/// What a status means. Where OTLP says that a record is not to be sent again, it is refused alone.
fn problem(status: &Status, secrets: &[String]) -> Problem {
    let mut message = status.message().to_owned();
    for secret in secrets {
        message = message.replace(secret, "[secret]");
    }
    let said = format!("the collector answered {:?}: {message}", status.code());
    match status.code() {
        Code::InvalidArgument => Problem::Refused(said),
        Code::OutOfRange | Code::ResourceExhausted
            if message.contains("larger than") || message.contains("too large") =>
        {
            Problem::TooLarge(said)
        }
        Code::Unauthenticated | Code::PermissionDenied => {
            slow(format!("{said}; see whether the credentials in headers are right")).into()
        }
        Code::Unimplemented | Code::NotFound => {
            slow(format!("{said}; see whether the address is that of a collector that takes logs")).into()
        }
        _ => {
            let source = std::error::Error::source(status).map(|source| format!(" ({})", explained(source)));
            Failure { retry_after: retry_delay(status.details()), ..Failure::new(said + &source.unwrap_or_default()) }
                .into()
        }
    }
}

fn secrets_of(metadata: &MetadataMap) -> Vec<String> {
    let values = metadata.iter().filter_map(|entry| match entry {
        KeyAndValueRef::Ascii(_, value) if value.is_sensitive() => value.to_str().ok(),
        _ => None,
    });
    values
        .flat_map(|value| [value, value.rsplit(' ').next().unwrap_or(value)])
        .filter(|value| value.len() > 3)
        .map(str::to_owned)
        .collect()
}

/// The deepest cause, and what to do about it where TLS says what is wrong.
fn explained(error: &(dyn std::error::Error + 'static)) -> String {
    let deepest = deepest(error);
    advice_on_cause(error).map_or_else(|| deepest.clone(), |advice| format!("{deepest}; {advice}"))
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// `google.rpc.Status`, which carries `RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtobufDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct ProtobufDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The pause that the collector asks for, an hour at most.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?.min(3_600);
    Some(Duration::new(seconds, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost::Message as _;
    use tonic::{Code, Status};

    use super::{Any, ProtobufDuration, RetryInfo, RpcStatus, problem};
    use crate::sink::http::Problem;

    #[test]
    fn statuses_are_again_slowly_smaller_or_never_and_hide_secrets() {
        let delay = RetryInfo { retry_delay: Some(ProtobufDuration { seconds: 7, nanos: 500_000_000 }) };
        let any = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value: delay.encode_to_vec() };
        let details = RpcStatus { details: vec![any] }.encode_to_vec();
        let status = Status::with_details(Code::Unavailable, "busy", details.into());
        let Problem::Again(failure) = problem(&status, &[]) else { panic!("not again") };
        assert_eq!(failure.retry_after, Some(Duration::from_millis(7_500)));
        let status = Status::new(Code::Unauthenticated, "no such token: hunter2");
        let Problem::Again(failure) = problem(&status, &["hunter2".to_owned()]) else { panic!("not again") };
        assert!(failure.retry_after.is_some() && failure.reason.contains("no such token: [secret];"), "{failure}");
        let large = Status::new(Code::ResourceExhausted, "grpc: received message larger than max (5 vs. 4)");
        assert!(matches!(problem(&large, &[]), Problem::TooLarge(_)));
        assert!(matches!(problem(&Status::new(Code::InvalidArgument, ""), &[]), Problem::Refused(_)));
    }
}
