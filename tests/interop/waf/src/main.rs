//! interop-waf SOCKET RULES: a WAF on the crate `zentinel-modsec`. Requests
//! only: the head is judged at once if no body follows, else with the last
//! chunk of it. RULES is a file of SecLang, which may include others.
use async_trait::async_trait;
use base64::{engine::general_purpose::STANDARD, Engine};
use std::collections::HashMap;
use std::sync::Mutex;
use zentinel_agent_protocol::v2::{AgentCapabilities, AgentHandlerV2, UdsAgentServerV2};
use zentinel_agent_protocol::{
    AgentResponse, AuditMetadata, HeaderOp, RequestBodyChunkEvent, RequestCompleteEvent,
    RequestHeadersEvent,
};
use zentinel_modsec::{ModSecurity, Transaction};

const BODY_MAX: usize = 10 << 20;

struct Held {
    tx: Transaction,
    body: usize,
}

struct Waf {
    engine: ModSecurity,
    open: Mutex<HashMap<String, Held>>,
}

fn block(status: u16, why: &str, rules: Vec<String>) -> AgentResponse {
    AgentResponse::block(status, Some("blocked\n".into()))
        .add_response_header(HeaderOp::Set {
            name: "x-waf-rule".into(),
            value: rules.join(","),
        })
        .with_audit(AuditMetadata {
            tags: vec!["waf".into()],
            rule_ids: rules,
            reason_codes: vec![why.into()],
            ..AuditMetadata::default()
        })
}

/// The verdict so far, or None where nothing speaks against the request.
fn verdict(tx: &Transaction) -> Option<AgentResponse> {
    let i = tx.intervention()?;
    let mut rules = tx.matched_rules().to_vec();
    // The set's own book-keeping says nothing about the request.
    rules.retain(|r| r.len() == 6 && !r.starts_with("90") && &r[3..] >= "100");
    Some(block(i.status, "SCORE", rules))
}

/// Regular expressions are compiled when first used: half a second's work that
/// the first visitor need not wait for.
fn warm(engine: &ModSecurity) -> zentinel_modsec::Result<()> {
    let mut tx = engine.new_transaction();
    tx.process_uri("/?a=b", "POST", "HTTP/1.1")?;
    for (name, value) in [
        ("host", "localhost"),
        ("user-agent", "warm"),
        ("accept", "*/*"),
        ("cookie", "a=b"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-length", "3"),
    ] {
        tx.add_request_header(name, value)?;
    }
    tx.process_request_headers()?;
    tx.append_request_body(b"c=d")?;
    tx.process_request_body()
}

fn failed(e: zentinel_modsec::Error) -> AgentResponse {
    eprintln!("interop-waf: {e}");
    block(500, "ENGINE", vec![])
}

fn has_body(e: &RequestHeadersEvent) -> bool {
    let first = |n: &str| e.headers.get(n).and_then(|v| v.first());
    first("transfer-encoding").is_some()
        || first("content-length").is_some_and(|v| v != "0")
}

impl Waf {
    fn head(&self, e: &RequestHeadersEvent) -> zentinel_modsec::Result<AgentResponse> {
        let mut tx = self.engine.new_transaction();
        tx.set_client_addr(&e.metadata.client_ip, e.metadata.client_port);
        tx.process_uri(&e.uri, &e.method, &e.metadata.protocol)?;
        for (name, values) in &e.headers {
            for v in values {
                tx.add_request_header(name, v)?;
            }
        }
        tx.process_request_headers()?;
        if let Some(r) = verdict(&tx) {
            return Ok(r);
        }
        if has_body(e) {
            let id = e.metadata.correlation_id.clone();
            self.open.lock().unwrap().insert(id, Held { tx, body: 0 });
            return Ok(AgentResponse::needs_more_data());
        }
        tx.process_request_body()?;
        Ok(verdict(&tx).unwrap_or_else(AgentResponse::default_allow))
    }

    fn chunk(&self, e: &RequestBodyChunkEvent) -> zentinel_modsec::Result<AgentResponse> {
        let Some(mut held) = self.open.lock().unwrap().remove(&e.correlation_id) else {
            return Ok(block(500, "UNKNOWN", vec![]));
        };
        let Ok(data) = STANDARD.decode(&e.data) else {
            return Ok(block(400, "BASE64", vec![]));
        };
        held.body += data.len();
        if held.body > BODY_MAX {
            return Ok(block(413, "BODY", vec![]));
        }
        held.tx.append_request_body(&data)?;
        if !e.is_last {
            let id = e.correlation_id.clone();
            self.open.lock().unwrap().insert(id, held);
            return Ok(AgentResponse::needs_more_data());
        }
        held.tx.process_request_body()?;
        Ok(verdict(&held.tx).unwrap_or_else(AgentResponse::default_allow))
    }
}

#[async_trait]
impl AgentHandlerV2 for Waf {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("waf", "interop-waf", "0.1.0")
    }

    async fn on_request_headers(&self, e: RequestHeadersEvent) -> AgentResponse {
        self.head(&e).unwrap_or_else(failed)
    }

    async fn on_request_body_chunk(&self, e: RequestBodyChunkEvent) -> AgentResponse {
        self.chunk(&e).unwrap_or_else(failed)
    }

    async fn on_request_complete(&self, e: RequestCompleteEvent) -> AgentResponse {
        self.open.lock().unwrap().remove(&e.correlation_id);
        AgentResponse::default_allow()
    }
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(rules)) = (args.next(), args.next()) else {
        panic!("usage: interop-waf SOCKET RULES");
    };
    let engine = ModSecurity::from_file(&rules).expect("the rules");
    eprintln!("interop-waf: {} rules", engine.rule_count());
    warm(&engine).expect("a first request");
    let waf = Waf {
        engine,
        open: Mutex::default(),
    };
    let server = UdsAgentServerV2::new("waf", path, Box::new(waf));
    server.run().await.expect("the server");
}
