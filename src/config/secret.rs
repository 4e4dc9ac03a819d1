//! `server.secret`, or the file that stands in for it.
//!
//! Rings whose input clients choose, and the cookies of sticky sessions and of canaries, are keyed with a secret, so
//! that nobody can compute which value leads to which Target. Where none is configured one is made on first need and kept, so
//! that a restart does not move everybody.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use log::info;

use crate::model::{Algorithm, Audience, Configuration, Identifier, PluginConfig, Secret, Settings, Store};

/// The secret that is needed is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file exists but cannot be read, or cannot be made.
    #[error(
        "cannot read or make the secret file {path}; set server.secret, or server.secret_file to a place that can be written"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// With a store in memory there is no place for one that would still be there after a restart.
    #[error(
        "a cookie or a hash of what clients choose needs a secret, and the store in memory keeps none; set server.secret (SERIN_SERVER_SECRET), or server.secret_file to a place that is kept"
    )]
    Nowhere,
    /// The file is too short to be a secret.
    #[error(
        "the secret file {path} holds fewer than {} bytes; delete it to have one made, which moves the keys of every ring and ends all sticky sessions",
        Secret::MIN_BYTES
    )]
    TooShort {
        /// The file.
        path: PathBuf,
    },
}

/// Returns the secret if the configuration needs one: the configured one, else that of the file,
/// which is made, readable by its owner only, when it does not exist.
///
/// # Errors
///
/// When one is needed and there is none.
pub fn obtain(configuration: &Configuration) -> Result<Option<Secret>, SecretError> {
    let settings = &configuration.settings;
    if !is_needed(configuration) {
        return Ok(None);
    }
    match &settings.secret {
        Some(secret) => Ok(Some(secret.clone())),
        None => from_file(&file_for(settings)?).map(Some),
    }
}

/// Name of the file beside the store.
const FILE_NAME: &str = "serin.secret";

fn file_for(settings: &Settings) -> Result<PathBuf, SecretError> {
    match (&settings.secret_file, &settings.store) {
        (Some(file), _) => Ok(file.clone()),
        (None, Store::Embedded(store)) => Ok(store.with_file_name(FILE_NAME)),
        (None, Store::Memory) => Err(SecretError::Nowhere),
    }
}

fn is_needed(configuration: &Configuration) -> bool {
    let signs_cookies = configuration.plugins.iter().any(|plugin| {
        let PluginConfig::Canary(canary) = &plugin.config else {
            return false;
        };
        match &canary.audience {
            Audience::Share { identifiers, .. } => {
                identifiers.iter().any(|one| matches!(one, Identifier::Cookie(_)))
            }
            Audience::Allow(_) | Audience::Deny(_) => false,
        }
    });
    signs_cookies || has_keyed_ring(configuration)
}

fn has_keyed_ring(configuration: &Configuration) -> bool {
    configuration
        .upstreams
        .iter()
        .any(|upstream| match &upstream.algorithm {
            Algorithm::RoundRobin | Algorithm::LeastConnections | Algorithm::Latency => false,
            Algorithm::StickySessions(_) => true,
            Algorithm::ConsistentHashing(hashing) => {
                hashing.input.is_chosen_by_client()
                    || hashing
                        .fallback
                        .as_ref()
                        .is_some_and(|input| input.is_chosen_by_client())
            }
        })
}

fn from_file(path: &Path) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::File {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let bytes: Vec<u8> = (0..2)
                .flat_map(|_| uuid::Uuid::new_v4().simple().to_string().into_bytes())
                .collect();
            file.write_all(&bytes)
                .and_then(|()| file.sync_all())
                .map_err(failed)?;
            info!("made the secret file {}", path.display());
            Ok(Secret::new(bytes).expect("two uuids are long enough"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut bytes = Vec::new();
            let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
            file.take(4096).read_to_end(&mut bytes).map_err(failed)?;
            Secret::new(bytes.trim_ascii()).ok_or_else(|| SecretError::TooShort {
                path: path.to_owned(),
            })
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_canary_needs_a_secret_for_its_cookie_only() {
        for (hash, expected) in [
            ("cookie, cookie: v", true),
            ("consumer, cookie: v", true),
            ("ip", false),
        ] {
            let text = format!(
                "_format_version: \"3.0\"\nplugins: [{{name: canary, config: {{upstream_host: h, percentage: 1, hash: {hash}}}}}]"
            );
            let loaded = crate::config::load_text("f.yaml", &text, &crate::config::Overrides::default());
            assert_eq!(is_needed(&loaded.unwrap().configuration), expected, "{hash}");
        }
    }

    #[test]
    fn the_file_lies_beside_the_store() {
        let check = |file: Option<&str>, store: Store| {
            let settings = Settings {
                secret_file: file.map(PathBuf::from),
                store,
                ..Settings::default()
            };
            file_for(&settings).ok()
        };
        let embedded = || Store::Embedded("/var/lib/serin/state.redb".into());
        assert_eq!(
            check(None, embedded()),
            Some("/var/lib/serin/serin.secret".into())
        );
        assert_eq!(check(Some("s"), embedded()), Some("s".into()));
        assert_eq!(check(Some("s"), Store::Memory), Some("s".into()));
        assert_eq!(check(None, Store::Memory), None);
        assert_eq!(check(None, Store::default()), Some("serin.secret".into()));
    }

    #[test]
    fn a_secret_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serin.secret");
        let made = from_file(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(from_file(&path).unwrap(), made);
    }

    #[test]
    fn a_short_file_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serin.secret");
        std::fs::write(&path, "short\n").unwrap();
        let error = from_file(&path).unwrap_err().to_string();
        assert!(error.contains("fewer than 32 bytes; delete it"), "{error}");
    }
}
