//! Upstreams behind TLS whose certificate was signed by an authority of one's own.

use crate::support::{Running, completion, question};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server for `localhost` behind TLS, and the file with the certificate of its authority.
async fn server(folder: &tempfile::TempDir) -> (String, PathBuf) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_string()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority.pem()).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let settings = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(settings));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            // A client that does not believe the certificate goes away.
            tokio::spawn(async move {
                let mut stream = BufReader::new(acceptor.accept(stream).await.ok()?);
                loop {
                    let (mut line, mut length) = (String::new(), 0);
                    while stream.read_line(&mut line).await.ok()? > 2 {
                        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().ok()?;
                        }
                        line.clear();
                    }
                    let mut body = vec![0; length];
                    stream.read_exact(&mut body).await.ok()?;
                    let answer = completion(&["Answer: 4".into()]).to_string();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        answer.len()
                    );
                    stream.write_all((head + &answer).as_bytes()).await.ok()?;
                    stream.flush().await.ok()?;
                }
                #[expect(unreachable_code, reason = "it says what `?` gives")]
                Some(())
            });
        }
    });
    (url, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_signed_is_refused_and_one_of_our_own_authority_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (url, authority) = server(&folder).await;
    let models = ["little", "elenchus/single/little"];
    let upstream = elenchus_recipe::UpstreamSettings::new(&url);
    let before = |upstream: elenchus_recipe::UpstreamSettings| {
        Running::with(&[], move |settings| {
            settings.embedded = false;
            settings.upstreams = vec![upstream];
        })
    };
    let gateway = before(upstream.clone()).await;
    for model in models {
        let begun = std::time::Instant::now();
        let (status, error) = gateway.ask(question(model, "2+2?")).await;
        assert_eq!((status, &error["error"]["code"]), (502, &json!("upstream_failed")), "{error}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("certificate") && message.contains("hint:"), "{message}");
        assert!(message.contains("`ca_file`"), "what to do: {message}");
        assert!(begun.elapsed().as_secs() < 5, "a recipe does not ask again what cannot be");
    }
    let trusting = elenchus_recipe::UpstreamSettings { ca_file: Some(authority.clone()), ..upstream.clone() };
    let gateway = before(trusting).await;
    for model in models {
        let (status, answer) = gateway.ask(question(model, "2+2?")).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["choices"][0]["message"]["content"], "Answer: 4");
    }
    // A file that is none is said when it is read.
    std::fs::write(&authority, "no certificate").unwrap();
    let upstreams = vec![elenchus_recipe::UpstreamSettings { ca_file: Some(authority), ..upstream.clone() }];
    let settings = elenchus_recipe::ServiceSettings { upstreams, ..Default::default() };
    let error = gateway.handle.reload((settings, Default::default())).unwrap_err().to_string();
    assert!(error.contains("authority.pem") && error.contains("hint:"), "{error}");
    assert_eq!(gateway.ask(question("little", "2+2?")).await.0, 200, "and changes nothing");
}
