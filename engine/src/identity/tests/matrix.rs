//! Every wrong certificate over real QUIC, shown by either end: refused, and both ends are told why.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;
use crate::transport::quic::{QuicConfig, QuicListener, QuicOptions, QuicTls, dial};
use crate::transport::{Link, LinkError};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn tls(identity: &Identity, time: UnixTime) -> QuicTls {
    let mut client = (*client_config(identity, Expect::Any).unwrap()).clone();
    let mut server = (*server_config(identity, None).unwrap()).clone();
    client.time_provider = Arc::new(Fixed(time));
    server.time_provider = Arc::new(Fixed(time));
    QuicTls {
        client: Some(Arc::new(client)),
        server: Some(Arc::new(server)),
        peer: Arc::new(move |chain| {
            peer_of(chain, None, time).map_err(|e| LinkError::Refused { detail: e.to_string() })
        }),
        reset_key: None,
    }
}

/// One node dials another; what the dialling end heard, and what was logged, which is waited for.
async fn meet(
    opener: &QuicTls,
    acceptor: &QuicTls,
    words: &str,
) -> (Result<(), LinkError>, String) {
    let heard = Heard::default();
    let _logged = tracing::subscriber::set_default(heard.clone());
    let config = QuicConfig::new(QuicOptions::default()).unwrap();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let listener = Arc::new(QuicListener::bind(any, acceptor, &config).unwrap());
    let accepting = Arc::clone(&listener);
    let greeting = tokio::spawn(async move {
        // A session ends with its link.
        let mut links = Vec::new();
        while let Some(link) = accepting.accept().await {
            let _ = link.send(bytes::Bytes::from_static(b"hello")).await;
            links.push(link);
        }
    });
    // With TLS 1.3 an opener may be let in and hear of its refusal then.
    let opened = async { dial(&[listener.local_addr()], opener, &config).await?.recv().await };
    let opened = tokio::time::timeout(Duration::from_secs(20), opened).await.expect("an end");
    // The listening end writes its log by itself.
    for _ in 0..100 {
        if heard.0.lock().unwrap().contains(words) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    listener.close("over").await;
    greeting.abort();
    let logged = heard.0.lock().unwrap().clone();
    (opened.map(drop), logged)
}

struct Case {
    name: &'static str,
    shown: Identity,
    time: UnixTime,
    text: String,
    hint: &'static str,
}

fn cases(lab: &Lab) -> Vec<Case> {
    let case = |name, shown, text: &str, hint| Case {
        name,
        shown,
        time: now(),
        text: text.to_owned(),
        hint,
    };
    let other = Lab::new();
    let self_signed = {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let cert = lab.params().self_signed(&key).unwrap().der().clone();
        lab.showing(vec![cert], &key)
    };
    let web = format!("spiffe://{}/ns/default/sa/web", lab.ca.domain());
    let foreign = SpiffeId { domain: "elsewhere.example".parse().unwrap(), ..lab.id("gpu-7") };
    let foreign = foreign.to_string();
    let until = |params: &mut CertificateParams| params.not_after = date_time_ymd(2026, 6, 11);
    let from = |params: &mut CertificateParams| params.not_before = date_time_ymd(2026, 6, 11);
    let invite = "invite the node to this trust domain";
    let one_uri = "give the node a certificate with one URI";
    vec![
        Case {
            time: at(NOW_S + 13 * DAY_S),
            ..case(
                "expired",
                lab.node(until),
                "gpu-7 presented a certificate that expired 3 days ago",
                "invite the node again",
            )
        },
        Case {
            time: at(NOW_S + 10 * DAY_S - 60),
            ..case(
                "not yet valid",
                lab.node(from),
                "gpu-7 presented a certificate that becomes valid in 1 min 00 s",
                "compare the clocks",
            )
        },
        case(
            "wrong CA",
            lab.node_of(&other.ca.issuer().unwrap(), |_| {}),
            "gpu-7 presented a certificate from an unknown CA",
            invite,
        ),
        case(
            "self-signed",
            self_signed,
            "gpu-7 presented a certificate that it signed itself",
            invite,
        ),
        case(
            "wrong SAN",
            lab.node(|params| params.subject_alt_names = vec![uri(&web)]),
            &format!("the peer presented a certificate for '{web}'"),
            one_uri,
        ),
        case(
            "no SAN",
            lab.node(|params| params.subject_alt_names.clear()),
            "the peer presented a certificate without a SPIFFE id",
            one_uri,
        ),
        case(
            "another trust domain",
            lab.node(|params| params.subject_alt_names = vec![uri(&foreign)]),
            "gpu-7 belongs to the trust domain elsewhere.example",
            invite,
        ),
        case(
            "two URIs",
            lab.node(|params| params.subject_alt_names.push(uri("https://portway.example"))),
            "the peer presented a certificate with 2 URIs where one belongs",
            one_uri,
        ),
        case(
            "wrong usage",
            lab.node(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            }),
            "gpu-7 presented a certificate without the usage ",
            "give the node a certificate with clientAuth and serverAuth",
        ),
    ]
}

#[tokio::test]
async fn every_wrong_certificate_is_refused_at_both_ends_with_its_own_words() {
    let lab = Lab::new();
    let good = |time| tls(&lab.identity, time);
    let (opened, logged) = meet(&tls(&lab.node(|_| {}), now()), &good(now()), "").await;
    opened.unwrap_or_else(|error| panic!("a right certificate: {error}, {logged}"));
    let mut told = std::collections::BTreeSet::new();
    for Case { name, shown, time, text, hint } in cases(&lab) {
        let bad = tls(&shown, time);
        let (opened, logged) = meet(&bad, &good(time), &text).await;
        assert!(matches!(opened, Err(LinkError::Refused { .. })), "{name}, as opener: {opened:?}");
        assert!(logged.contains(&text), "{name}: the acceptor says {logged}");
        let (opened, _) = meet(&good(time), &bad, "").await;
        let Err(LinkError::Refused { detail }) = opened else {
            panic!("{name}, as acceptor: {opened:?}")
        };
        assert!(detail.contains(&text), "{name}: the opener says {detail}");
        assert!(told.insert(text.clone()), "{name}: its words are those of another case");
        // What to do about it is with the error that the checks give.
        let error = refused_both_ways(&lab, &shown, time);
        assert!(error.to_string().contains(&text), "{name}: {error}");
        assert!(error.hint().contains(hint), "{name}: {}", error.hint());
    }
}
