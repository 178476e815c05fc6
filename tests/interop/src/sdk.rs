//! interop-sdk SOCKET: an agent on the SDK, which answers as decide.rs says.
//! The SDK shows each chunk as a whole body and never a chunk's index.
use base64::{engine::general_purpose::STANDARD, Engine};
use std::collections::HashMap;
use std::time::Duration;
use zentinel_agent_protocol::BodyMutation;
use zentinel_agent_sdk::prelude::*;

struct InteropAgent;

fn block() -> Decision {
    Decision::block(429)
        .with_body("blocked by interop\n")
        .with_block_header("x-block", "yes")
        .add_response_header("x-interop", "block")
        .with_tag("interop")
        .with_rule_id("rule-1")
        .with_confidence(0.95)
        .with_reason_code("BECAUSE")
}

fn edit(request_side: bool) -> Decision {
    let mut d = Decision::allow();
    if request_side {
        d = d
            .add_request_header("x-set", "by-agent")
            .remove_request_header("x-remove");
    }
    d.add_response_header("x-set", "by-agent")
        .remove_response_header("x-remove")
}

fn challenge(kind: &str, key: &str, value: &str) -> Decision {
    Decision::challenge(kind, HashMap::from([(key.into(), value.into())]))
}

fn redirect() -> Decision {
    Decision::redirect("https://example.com/x?y=1")
}

fn holds(body: &[u8], word: &str) -> bool {
    body.windows(word.len()).any(|w| w == word.as_bytes())
}

fn mutate(event: &str, body: &[u8], data: &str) -> Decision {
    if !holds(body, "swap-me") {
        return Decision::allow();
    }
    let m = BodyMutation::replace(0, STANDARD.encode(data));
    match event {
        "request-chunk" => Decision::allow().with_request_body_mutation(m),
        _ => Decision::allow().with_response_body_mutation(m),
    }
}

fn order(path: &str) -> (&str, &str) {
    let mut part = path.split('?').next().unwrap().split('/').skip(2);
    (part.next().unwrap_or(""), part.next().unwrap_or(""))
}

fn more(event: &str, ordered: &str, body: Option<&[u8]>) -> Decision {
    let side = ordered.split('-').next().unwrap_or("");
    match body {
        None if event == ordered => Decision::allow().needs_more_data(),
        Some(b) if event.starts_with(side) && holds(b, "bad") => block(),
        _ => Decision::allow(),
    }
}

async fn answer(request: &Request, event: &str, body: Option<&[u8]>) -> Decision {
    let (ordered, what) = order(request.path());
    if what == "more" {
        return more(event, ordered, body);
    }
    if ordered != event {
        return Decision::allow();
    }
    match (what, body) {
        ("block", _) => block(),
        ("edit", _) => edit(event.starts_with("request")),
        ("redirect", _) => redirect(),
        ("challenge", _) => challenge("captcha", "site", "k"),
        ("auth", _) => challenge("basic", "www-authenticate", "Basic realm=\"interop\""),
        ("replace", Some(b)) => mutate(event, b, "swapped"),
        ("drop", Some(b)) => mutate(event, b, ""),
        ("slow", _) => {
            tokio::time::sleep(Duration::from_millis(800)).await;
            Decision::allow()
        }
        ("crash", _) => panic!("as told"),
        _ => Decision::allow(),
    }
}

#[async_trait]
impl Agent for InteropAgent {
    fn name(&self) -> &str {
        "interop"
    }

    async fn on_configure(&self, config: serde_json::Value) -> Result<(), String> {
        eprintln!("configure {config}");
        match config.get("refuse") {
            None => Ok(()),
            Some(_) => Err("not with this".into()),
        }
    }

    async fn on_request(&self, request: &Request) -> Decision {
        answer(request, "request-head", None).await
    }

    async fn on_request_body(&self, request: &Request) -> Decision {
        answer(request, "request-chunk", request.body()).await
    }

    async fn on_response(&self, request: &Request, _: &Response) -> Decision {
        answer(request, "response-head", None).await
    }

    async fn on_response_body(&self, request: &Request, response: &Response) -> Decision {
        answer(request, "response-chunk", response.body()).await
    }

    async fn on_request_complete(&self, request: &Request, status: u16, _: u64) {
        let (event, what) = order(request.path());
        eprintln!("complete {event} {what} {status}");
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).expect("usage: interop-sdk SOCKET");
    AgentRunner::new(InteropAgent)
        .with_name("interop")
        .with_socket(path)
        .run()
        .await
}
