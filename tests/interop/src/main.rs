//! interop-agent SOCKET: an agent built on the public crate.
//!
//! - path prefix /block: block 403 with a body
//! - path prefix /redirect: redirect 302
//! - any other request: `x-interop: request` set on the request and
//!   `x-interop: response` added to the response
//! - a request or response body chunk holding the word "forbidden": block 451
//! - a request body chunk holding "swap-me": replaced by "swapped"

use async_trait::async_trait;
use base64::{engine::general_purpose::STANDARD, Engine};
use zentinel_agent_protocol::v2::{
    AgentCapabilities, AgentHandlerV2, UdsAgentServerV2,
};
use zentinel_agent_protocol::{
    AgentResponse, BodyMutation, HeaderOp, RequestBodyChunkEvent,
    RequestHeadersEvent, ResponseBodyChunkEvent, ResponseHeadersEvent,
};

struct Agent;

fn has_word(data: &str, word: &str) -> bool {
    match STANDARD.decode(data) {
        Ok(bytes) => {
            bytes.windows(word.len()).any(|w| w == word.as_bytes())
        }
        Err(_) => true, // what can't be read is refused
    }
}

fn set(name: &str, value: &str) -> HeaderOp {
    HeaderOp::Set {
        name: name.into(),
        value: value.into(),
    }
}

#[async_trait]
impl AgentHandlerV2 for Agent {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("interop", "interop-agent", "0.1.0")
    }

    async fn on_request_headers(&self, e: RequestHeadersEvent) -> AgentResponse {
        if e.uri.starts_with("/block") {
            return AgentResponse::block(403, Some("blocked by interop\n".into()))
                .add_response_header(set("x-interop", "block"));
        }
        if e.uri.starts_with("/redirect") {
            return AgentResponse::redirect("https://example.com/".into(), 302);
        }
        AgentResponse::default_allow()
            .add_request_header(set("x-interop", "request"))
            .add_response_header(set("x-interop", "response"))
    }

    async fn on_request_body_chunk(&self, e: RequestBodyChunkEvent) -> AgentResponse {
        if has_word(&e.data, "forbidden") {
            return AgentResponse::block(451, Some("word\n".into()));
        }
        if has_word(&e.data, "swap-me") {
            let data = STANDARD.encode("swapped");
            return AgentResponse::default_allow()
                .with_request_body_mutation(BodyMutation::replace(e.chunk_index, data));
        }
        AgentResponse::default_allow()
    }

    async fn on_response_headers(&self, e: ResponseHeadersEvent) -> AgentResponse {
        AgentResponse::default_allow()
            .add_response_header(set("x-interop-status", &e.status.to_string()))
    }

    async fn on_response_body_chunk(&self, e: ResponseBodyChunkEvent) -> AgentResponse {
        if has_word(&e.data, "forbidden") {
            return AgentResponse::block(451, Some("word\n".into()));
        }
        AgentResponse::default_allow()
    }
}

#[tokio::main]
async fn main() {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: interop-agent SOCKET");
        std::process::exit(2);
    };
    let server = UdsAgentServerV2::new("interop", path, Box::new(Agent));
    if let Err(e) = server.run().await {
        eprintln!("interop-agent: {e}");
        std::process::exit(1);
    }
}
