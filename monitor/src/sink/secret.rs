//! A setting that names a place of a secret instead of holding one.

use std::{
    borrow::Cow,
    env,
    ffi::OsStr,
    fmt, fs,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
};
use zeroize::Zeroizing;

/// More than any token or password, and little enough to be read at each connection.
const MAX_BYTES: u64 = 64 << 10;

/// What stands in messages and printed settings instead of a secret.
const HIDDEN: &str = "[secret]";

/// How a secret is written in the configuration.
const ADVICE: &str = "a secret is not written into the configuration: write { file = \"/path\" }, { env = \"NAME\" } or \
                      { credential = \"name\" } (LoadCredential= of systemd)";

/// A secret: `{ file = "/path" }`, `{ env = "NAME" }`, or `{ credential = "name" }` for a credential that systemd hands to the
/// unit (`LoadCredential=`). It is read anew for each use, so that a rotated secret needs no restart. A final newline is left
/// out.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Environment(String),
    Credential(String),
}

/// A secret cannot be read. The message never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file {}: {source}; it must be readable by the daemon and by nobody else", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The environment has no such variable, or not as text.
    #[error("the environment variable {name} that holds a secret is not set, or not as UTF-8: set it for the daemon")]
    Environment {
        /// The variable.
        name: String,
    },
    /// Not started by systemd with credentials.
    #[error(
        "the credential {name} cannot be read, because $CREDENTIALS_DIRECTORY is not set: add LoadCredential={name}:/path to \
         the unit"
    )]
    NoCredentials {
        /// The credential.
        name: String,
    },
    /// The credential cannot be read.
    #[error("cannot read the credential {name}: {source}; add LoadCredential={name}:/path to the unit")]
    Credential {
        /// The credential.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("the secret in {place} is empty")]
    Empty {
        /// Where it was looked for.
        place: String,
    },
    /// It is no secret but something larger.
    #[error("the secret in {place} has more than {MAX_BYTES} bytes: name the file that holds nothing but the secret")]
    TooLong {
        /// Where it was looked for.
        place: String,
    },
}

impl Secret {
    /// The secret in `path`.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// Reads the secret. What it returns is erased when it is dropped.
    pub fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        self.read_with(env::var_os("CREDENTIALS_DIRECTORY").as_deref())
    }

    /// The same, with credentials in this directory.
    fn read_with(&self, credentials: Option<&OsStr>) -> Result<Zeroizing<String>, SecretError> {
        let text = match &self.0 {
            Place::File(path) => self.read_file(path, |source| SecretError::File { path: path.clone(), source })?,
            Place::Environment(name) => {
                Zeroizing::new(env::var(name).map_err(|_| SecretError::Environment { name: name.clone() })?)
            }
            Place::Credential(name) => {
                let directory = credentials.ok_or_else(|| SecretError::NoCredentials { name: name.clone() })?;
                let path = Path::new(directory).join(name);
                self.read_file(&path, |source| SecretError::Credential { name: name.clone(), source })?
            }
        };
        let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        match secret.len() {
            0 => Err(SecretError::Empty { place: self.place() }),
            length if length == text.len() => Ok(text),
            _ => Ok(Zeroizing::new(secret.to_owned())),
        }
    }

    fn read_file(
        &self,
        path: &Path,
        error: impl Fn(io::Error) -> SecretError,
    ) -> Result<Zeroizing<String>, SecretError> {
        let file = fs::File::open(path).map_err(&error)?;
        // Its whole size at once, so that no half-filled buffer is left behind unerased.
        let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES as usize + 1));
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(&error)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(SecretError::TooLong { place: self.place() });
        }
        Ok(text)
    }

    /// Where it is, for messages.
    fn place(&self) -> String {
        match &self.0 {
            Place::File(path) => path.display().to_string(),
            Place::Environment(name) => format!("${name}"),
            Place::Credential(name) => format!("the credential {name}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor).map(Self)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Place;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("{ file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" }")
    }

    // The text itself must not be in the message: it may be the secret.
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Place, E> {
        Err(E::custom(ADVICE))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Place, A::Error> {
        let Some((key, value)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::custom(ADVICE));
        };
        let place = match key.as_str() {
            "file" if Path::new(&value).is_absolute() => Place::File(PathBuf::from(value)),
            "file" => return Err(de::Error::custom(format!("`{value}` is relative: write an absolute path"))),
            "env" if !value.is_empty() && !value.contains(['=', '\0']) => Place::Environment(value),
            "env" => return Err(de::Error::custom(format!("`{value}` is no name of an environment variable"))),
            "credential" if is_file_name(&value) => Place::Credential(value),
            "credential" => {
                return Err(de::Error::custom(format!(
                    "`{value}` is no name of a credential: write the name, not a path"
                )));
            }
            _ => return Err(de::Error::unknown_field(&key, &["file", "env", "credential"])),
        };
        if map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom("a secret has one place: write only one of file, env and credential"));
        }
        Ok(place)
    }
}

/// One plain component: nothing that leads out of the credentials' directory.
fn is_file_name(text: &str) -> bool {
    let mut components = Path::new(text).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == text)
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let place = |key: &str| {
            json_schema!({
                "type": "object",
                "properties": { key: { "type": "string" } },
                "required": [key],
                "additionalProperties": false
            })
        };
        json_schema!({
            "description": "A secret's place: { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" }.",
            "oneOf": [place("file"), place("env"), place("credential")]
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde::Deserialize;

    use super::Secret;

    #[derive(Debug, Deserialize)]
    struct Settings {
        token: Secret,
    }

    fn parse(text: &str) -> Result<Secret, String> {
        toml::from_str::<Settings>(text).map(|settings| settings.token).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_secret_is_read_from_its_file_each_time_and_loses_one_newline() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        let secret = parse(&format!("token = {{ file = \"{}\" }}", path.display())).expect("a place");
        for (text, expected) in
            [("s3cret\n", "s3cret"), ("other", "other"), ("crlf\r\n", "crlf"), (" two\n\n", " two\n")]
        {
            fs::write(&path, text).expect("a file");
            assert_eq!(secret.read().expect("a secret").as_str(), expected);
        }
        fs::write(&path, "\n").expect("a file");
        assert!(secret.read().expect_err("nothing in it").to_string().ends_with("is empty"));
        fs::write(&path, "x".repeat(70_000)).expect("a file");
        assert!(secret.read().expect_err("too much").to_string().contains("more than 65536 bytes"));
        fs::remove_file(&path).expect("removed");
        let error = secret.read().expect_err("no file").to_string();
        assert!(error.contains("cannot read the secret file /") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn the_environment_and_credentials_are_other_places() {
        let path = parse("token = { env = \"PATH\" }").expect("a place");
        assert_eq!(path.read().expect("it is set").as_str(), std::env::var("PATH").expect("it is set"));
        let missing = parse("token = { env = \"EGRESSWATCH_NOT_SET\" }").expect("a place");
        assert!(missing.read().expect_err("not set").to_string().contains("EGRESSWATCH_NOT_SET"));
        let credential = parse("token = { credential = \"hec\" }").expect("a place");
        assert!(credential.read().expect_err("no systemd").to_string().contains("LoadCredential=hec:/path"));
        let directory = tempfile::tempdir().expect("a directory");
        let given = Some(directory.path().as_os_str());
        fs::write(directory.path().join("hec"), "s3cret\n").expect("a file");
        assert_eq!(credential.read_with(given).expect("a secret").as_str(), "s3cret");
        let other = parse("token = { credential = \"other\" }").expect("a place");
        assert!(other.read_with(given).expect_err("not given").to_string().contains("the credential other"));
    }

    #[test]
    fn a_secret_in_the_configuration_is_refused_and_not_repeated() {
        let error = parse("token = \"hunter2\"").expect_err("a bare string");
        assert!(
            error.starts_with("a secret is not written into the configuration") && !error.contains("hunter2"),
            "{error}"
        );
        for (text, complaint) in [
            ("token = {}", "a secret is not written into the configuration"),
            ("token = { file = \"relative\" }", "`relative` is relative: write an absolute path"),
            ("token = { credential = \"../../etc/shadow\" }", "is no name of a credential"),
            ("token = { credential = \"..\" }", "is no name of a credential"),
            ("token = { env = \"A=B\" }", "is no name of an environment variable"),
            ("token = { fiel = \"/x\" }", "unknown field `fiel`"),
            ("token = { file = \"/x\", env = \"X\" }", "a secret has one place"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::file(Path::new("/run/secret"));
        assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");
        assert_eq!(serde_json::to_string(&secret).expect("a string"), "\"[secret]\"");
    }
}
