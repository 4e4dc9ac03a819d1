//! Where a running process can be asked for its sockets: a Unix socket that only its own user reaches.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::channel::{is_answered, listen};

/// Bytes that the path of a Unix socket may have, unix(7).
const MAX_PATH: usize = 107;

/// The socket for upgrades cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Another process answers there.
    #[error(
        "another process is to be upgraded at {}; start with --upgrade to take over from it, or set server.upgrade.socket to another path",
        path.display()
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is not a socket; move it away, or set server.upgrade.socket to another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Everybody could put a socket of their own there.
    #[error(
        "everybody may write to the folder of {}; set server.upgrade.socket to a path in a folder of its own, or server.upgrade to false",
        path.display()
    )]
    Open {
        /// The path.
        path: PathBuf,
    },
    /// The system does not take so long a path.
    #[error(
        "{} is too long for a socket, whose path has {MAX_PATH} bytes at most; set server.upgrade.socket to a shorter one, or server.upgrade to false",
        path.display()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The system refused something else.
    #[error(
        "cannot make the socket {}; set server.upgrade.socket to a place that can be written, or server.upgrade to false",
        path.display()
    )]
    System {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Makes the socket. What a process that has ended left there is replaced.
///
/// # Errors
/// When there is a process that answers, and when a socket is not possible or not safe there.
pub(super) fn bind(path: &Path) -> Result<OwnedFd, PlaceError> {
    check(path)?;
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(PlaceError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) if is_answered(path) => {
            return Err(PlaceError::InUse {
                path: path.to_owned(),
            });
        }
        _ => {}
    }
    replace(path)
}

/// Makes the socket in the place of the one of a process that is about to end.
///
/// # Errors
/// When a socket is not possible or not safe there.
pub(super) fn replace(path: &Path) -> Result<OwnedFd, PlaceError> {
    check(path)?;
    let failed = |source| PlaceError::System {
        path: path.to_owned(),
        source,
    };
    // Made beside its place and moved there: it has its mode before anybody can find it, and there is no
    // moment without a socket.
    let beside = with_suffix(path);
    let _ = std::fs::remove_file(&beside);
    let socket = listen(&beside).map_err(failed)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    Ok(socket)
}

fn check(path: &Path) -> Result<(), PlaceError> {
    if with_suffix(path).as_os_str().len() > MAX_PATH {
        return Err(PlaceError::TooLong {
            path: path.to_owned(),
        });
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder =
        std::fs::metadata(folder.unwrap_or(Path::new("."))).map_err(|source| PlaceError::System {
            path: path.to_owned(),
            source,
        })?;
    match folder.mode() & 0o002 {
        0 => Ok(()),
        _ => Err(PlaceError::Open {
            path: path.to_owned(),
        }),
    }
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        bind(path).unwrap_err().to_string()
    }

    #[test]
    fn a_socket_that_is_left_over_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serin.sock");
        let first = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(
            refusal(&path).contains("start with --upgrade"),
            "{}",
            refusal(&path)
        );
        drop(first);
        let second = bind(&path).unwrap();
        // The successor takes the place of one that lives.
        let _third = replace(&path).unwrap();
        drop(second);
        assert!(is_answered(&path));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn places_that_are_not_possible_or_not_safe_are_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(MAX_PATH));
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        for (path, part) in [
            (long, "too long"),
            (file, "is not a socket"),
            (open.join("serin.sock"), "everybody may write"),
            (folder.path().join("nowhere/serin.sock"), "cannot make the socket"),
        ] {
            let text = refusal(&path);
            assert!(text.contains(part), "{text}");
            assert!(text.contains("server.upgrade"), "{text}");
        }
    }
}
