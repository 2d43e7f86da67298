//! The files that a connection needs: the password, and the certificates that are trusted.
//!
//! Why read at each connection: both are replaced now and then, and nobody should have to think of
//! restarting anything.
//! Invariant: a password that others can read is not used, and no error tells it.

use anyhow::{Context as _, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Longer than any password.
const PASSWORD_BYTES_MAX: u64 = 4 * 1024;

/// Where machines keep the certificates they trust: Debian and its kin, then Red Hat and its kin.
const SYSTEM_CERTIFICATES: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Reads the password: the file's first line. Blocks on the disk.
pub(super) fn password(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let metadata = std::fs::metadata(path)
        .with_context(|| format!("cannot read the password file {shown}"))?;
    let others_may = metadata.mode() & 0o077;
    ensure!(
        others_may == 0,
        "the password file {shown} can be read by others, so it is not used: run `chmod 600 {shown}`"
    );
    let own = sys::users::effective_uid();
    ensure!(
        metadata.uid() == own || metadata.uid() == 0,
        "the password file {shown} belongs to user {}, so it is not used: run `chown {own} {shown}`",
        metadata.uid()
    );
    let text = sys::regular::read_to_string(path, PASSWORD_BYTES_MAX)
        .with_context(|| format!("cannot read the password file {shown}"))?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "the password file {shown} is empty");
    Ok(line.to_owned())
}

/// How a server proves who it is: by these certificates, or by those that the machine trusts.
/// Blocks on the disk.
pub(super) fn trust(ca: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let path = match ca {
        Some(path) => path,
        None => SYSTEM_CERTIFICATES.iter().map(Path::new).find(|path| path.exists()).context(
            "this machine has no list of trusted certificates; install `ca-certificates`, or set \
             `ca` in [mail]",
        )?,
    };
    let shown = path.display();
    let read = || format!("cannot read the trusted certificates {shown}");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).with_context(read)? {
        // A list of the machine may hold odd ones; what is left decides.
        let _ = roots.add(certificate.with_context(read)?);
    }
    ensure!(!roots.is_empty(), "{shown} holds no certificate that can be used");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_password_that_others_can_read_is_not_used_and_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        assert!(password(&path).unwrap_err().to_string().contains("cannot read the password file"));
        fs::write(&path, "geheim\n").unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let why = format!("{:#}", password(&path).unwrap_err());
            assert!(why.contains("chmod 600") && !why.contains("geheim"), "{why}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password(&path).unwrap(), "geheim");
        fs::write(&path, "\nsecond").unwrap();
        assert!(password(&path).is_err());
    }

    #[test]
    fn a_list_without_certificates_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(trust(Some(&path)).unwrap_err().to_string().contains("ca.pem"));
        fs::write(&path, "nothing").unwrap();
        assert!(trust(Some(&path)).unwrap_err().to_string().contains("no certificate"));
    }
}
