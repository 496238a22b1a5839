//! Whom we believe that a server is who it says: authorities from a file, and the words for a certificate that none signed.

use reqwest::Certificate;
use std::error::Error;
use std::path::Path;

/// The certificates in a PEM file, for a server that is asked over `scheme`.
///
/// # Errors
/// The file cannot be read, or holds none; a server without TLS has no certificate. In words.
pub fn certificates(file: &Path, scheme: &str) -> Result<Vec<Certificate>, String> {
    let shown = file.display();
    if scheme != "https" {
        return Err(format!("`ca_file` {shown} is for certificates, and a server at {scheme} has none"));
    }
    let bytes = std::fs::read(file).map_err(|error| format!("`ca_file` {shown} cannot be read: {error}"))?;
    let certificates = Certificate::from_pem_bundle(&bytes)
        .map_err(|error| format!("`ca_file` {shown} holds no certificates: {error}"))?;
    match certificates.is_empty() {
        true => Err(format!("`ca_file` {shown} holds no certificates: no `BEGIN CERTIFICATE` is in it")),
        false => Ok(certificates),
    }
}

/// What to do about a server whose certificate was refused; `None` where that was not the problem.
pub fn certificate_problem(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = cause.downcast_ref() {
            return Some(
                "if it is that of your own authority, name the file with its certificate as `ca_file` beside `base_url`",
            );
        }
        // An error of the system does not name the one within it as its cause.
        let within = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match within {
            Some(within) => Some(within),
            None => cause.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ours.pem");
        for (text, scheme, said) in [
            (None, "https", "cannot be read"),
            (Some("nothing"), "https", "no certificates"),
            (Some("nothing"), "http", "has none"),
        ] {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let error = certificates(&file, scheme).unwrap_err();
            assert!(error.contains("ours.pem") && error.contains(said), "{error}");
        }
    }
}
