//! example SOCKET: refuses /admin, marks what it has seen, masks secrets.
use base64::{engine::general_purpose::STANDARD, Engine};
use zentinel_agent_protocol::BodyMutation;
use zentinel_agent_sdk::prelude::*;

struct Example;

#[async_trait]
impl Agent for Example {
    fn name(&self) -> &str {
        "example"
    }

    async fn on_request(&self, request: &Request) -> Decision {
        if request.path().starts_with("/admin") {
            return Decision::block(403)
                .with_body("denied\n")
                .with_rule_id("admin");
        }
        Decision::allow()
            .add_request_header("X-Checked-By", "example")
            .add_response_header("X-Checked-By", "example")
    }

    // The SDK hands over each chunk as if it were the whole body: `buffer`.
    async fn on_request_body(&self, request: &Request) -> Decision {
        let body = request.body_str().unwrap_or("");
        if !body.contains("secret") {
            return Decision::allow();
        }
        let masked = STANDARD.encode(body.replace("secret", "******"));
        Decision::allow().with_request_body_mutation(BodyMutation::replace(0, masked))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let socket = std::env::args().nth(1).expect("usage: example SOCKET");
    AgentRunner::new(Example)
        .with_name("example")
        .with_socket(socket)
        .run()
        .await
}
