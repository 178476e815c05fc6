// What our agents answer. The path says it: /MODE/EVENT/WHAT, where EVENT is
// request-head, request-chunk, response-head or response-chunk, and WHAT one of
//
// - allow: nothing; so do all other events
// - block: 429 with a body, a header and an audit record
// - edit: header operations on both sides
// - redirect: 307; challenge: captcha; auth: a challenge that means 401
// - replace, drop: a chunk that holds "swap-me"
// - more: not decided before the last chunk, which is refused if it holds "bad"
// - slow: as allow, after 0.8 s; crash: panics
//
// Included by the agents on the plain crates, which name their crate `proto`.
use base64::{engine::general_purpose::STANDARD, Engine};
use proto::{AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

#[derive(Clone, Default)]
struct Order {
    event: String,
    what: String,
}

struct Chunk<'a> {
    data: &'a str,
    index: u32,
    last: bool,
}

#[derive(Default)]
struct Orders(Mutex<HashMap<String, Order>>);

impl Orders {
    fn begin(&self, id: &str, uri: &str) -> Order {
        let mut part = uri.split('?').next().unwrap().split('/').skip(2);
        let order = Order {
            event: part.next().unwrap_or("").into(),
            what: part.next().unwrap_or("").into(),
        };
        let mut all = self.0.lock().unwrap();
        all.insert(id.into(), order.clone());
        order
    }

    fn get(&self, id: &str) -> Order {
        self.0.lock().unwrap().get(id).cloned().unwrap_or_default()
    }

    fn end(&self, id: &str, status: u16) {
        let order = self.0.lock().unwrap().remove(id);
        if let Some(o) = order {
            eprintln!("complete {} {} {}", o.event, o.what, status);
        }
    }
}

fn set(name: &str, value: &str) -> HeaderOp {
    HeaderOp::Set {
        name: name.into(),
        value: value.into(),
    }
}

fn add(name: &str, value: &str) -> HeaderOp {
    HeaderOp::Add {
        name: name.into(),
        value: value.into(),
    }
}

fn remove(name: &str) -> HeaderOp {
    HeaderOp::Remove { name: name.into() }
}

fn decided(decision: Decision) -> AgentResponse {
    AgentResponse {
        decision,
        ..AgentResponse::default_allow()
    }
}

fn block() -> AgentResponse {
    let mut r = decided(Decision::Block {
        status: 429,
        body: Some("blocked by interop\n".into()),
        headers: Some(HashMap::from([("x-block".into(), "yes".into())])),
    });
    r.audit = AuditMetadata {
        tags: vec!["interop".into()],
        rule_ids: vec!["rule-1".into()],
        confidence: Some(0.95),
        reason_codes: vec!["BECAUSE".into()],
        ..AuditMetadata::default()
    };
    r.add_response_header(set("x-interop", "block"))
}

fn edit(request_side: bool) -> AgentResponse {
    let mut r = AgentResponse::default_allow();
    if request_side {
        r = r
            .add_request_header(set("x-set", "by-agent"))
            .add_request_header(add("x-add", "two"))
            .add_request_header(remove("x-remove"));
    }
    r.add_response_header(set("x-set", "by-agent"))
        .add_response_header(add("x-add", "two"))
        .add_response_header(remove("x-remove"))
}

fn challenge(kind: &str, key: &str, value: &str) -> AgentResponse {
    decided(Decision::Challenge {
        challenge_type: kind.into(),
        params: HashMap::from([(key.into(), value.into())]),
    })
}

fn holds(chunk: &Chunk, word: &str) -> bool {
    let bytes = STANDARD.decode(chunk.data).expect("base64");
    bytes.windows(word.len()).any(|w| w == word.as_bytes())
}

fn mutate(event: &str, chunk: &Chunk, data: &str) -> AgentResponse {
    if !holds(chunk, "swap-me") {
        return AgentResponse::default_allow();
    }
    let m = BodyMutation::replace(chunk.index, STANDARD.encode(data));
    match event {
        "request-chunk" => AgentResponse::default_allow().with_request_body_mutation(m),
        _ => AgentResponse::default_allow().with_response_body_mutation(m),
    }
}

/// The answer to `more`: on the head of the order's side and its chunks.
fn more(order: &Order, event: &str, chunk: Option<Chunk>) -> AgentResponse {
    let side = order.event.split('-').next().unwrap_or("");
    match chunk {
        None if event == order.event => AgentResponse::needs_more_data(),
        Some(c) if event.starts_with(side) && !c.last => AgentResponse::needs_more_data(),
        Some(c) if event.starts_with(side) && holds(&c, "bad") => block(),
        _ => AgentResponse::default_allow(),
    }
}

async fn answer(order: Order, event: &str, chunk: Option<Chunk<'_>>) -> AgentResponse {
    if order.what == "more" {
        return more(&order, event, chunk);
    }
    if order.event != event {
        return AgentResponse::default_allow();
    }
    match (order.what.as_str(), chunk) {
        ("block", _) => block(),
        ("edit", Some(c)) if c.index > 0 => AgentResponse::default_allow(),
        ("edit", _) => edit(event.starts_with("request")),
        ("redirect", _) => AgentResponse::redirect("https://example.com/x?y=1".into(), 307),
        ("challenge", _) => challenge("captcha", "site", "k"),
        ("auth", _) => challenge("basic", "www-authenticate", "Basic realm=\"interop\""),
        ("replace", Some(c)) => mutate(event, &c, "swapped"),
        ("drop", Some(c)) => mutate(event, &c, ""),
        ("slow", _) => {
            tokio::time::sleep(Duration::from_millis(800)).await;
            AgentResponse::default_allow()
        }
        ("crash", _) => panic!("as told"),
        _ => AgentResponse::default_allow(),
    }
}

fn accepted(config: &serde_json::Value) -> bool {
    eprintln!("configure {config}");
    config.get("refuse").is_none()
}
