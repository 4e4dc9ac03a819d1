//! Certificates in files that others hide.

use serde_json::Value;

use super::at;
use super::check::Checker;
use super::mark::Mark;
use crate::model::CertificateFiles;

/// Warns of a file under a name that an earlier one has with a key of the same kind: clients are shown the
/// earlier one. `server` is what is written, with its places.
pub(super) fn warn(files: &[CertificateFiles], server: &Value, mark: &Mark, checker: &mut Checker<'_>) {
    let list = at::entry(server, Some(mark), "certificates").map(|(_, mark)| mark);
    for (index, file) in files.iter().enumerate() {
        let certificate = &file.certificate;
        let hider = |name: &String| {
            files[..index]
                .iter()
                .map(|earlier| &earlier.certificate)
                .position(|earlier| earlier.names.contains(name) && earlier.has_kind_of(certificate))
        };
        let hidden: Vec<(&String, usize)> = certificate
            .names
            .iter()
            .filter_map(|name| Some((name, hider(name)?)))
            .collect();
        let Some((name, earlier)) = hidden.first() else {
            continue;
        };
        let more = match hidden.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        checker.warn(
            list.and_then(|list| list.item(index)).map(|item| item.span),
            format!("server.certificates[{index}]"),
            format!("never shown for {name}{more}: server.certificates[{earlier}] has the name too, and a key of the same kind"),
            Some("leave one of the two out, or give each its own names in 'snis'; with keys of two kinds, RSA and ECDSA, both are of use".to_owned()),
        );
    }
}
