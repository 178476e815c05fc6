//! interop-plain SOCKET: an agent on the plain crate. See decide.rs.
use async_trait::async_trait;
use zentinel_agent_protocol as proto;
use zentinel_agent_protocol::v2::{AgentCapabilities, AgentHandlerV2, UdsAgentServerV2};
use zentinel_agent_protocol::{
    RequestBodyChunkEvent, RequestCompleteEvent, RequestHeadersEvent, ResponseBodyChunkEvent,
    ResponseHeadersEvent,
};

include!("decide.rs");

#[derive(Default)]
struct Agent {
    orders: Orders,
}

#[async_trait]
impl AgentHandlerV2 for Agent {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("interop", "interop-agent", "0.1.0")
    }

    async fn on_configure(&self, config: serde_json::Value, _: Option<String>) -> bool {
        accepted(&config)
    }

    async fn on_request_headers(&self, e: RequestHeadersEvent) -> AgentResponse {
        let order = self.orders.begin(&e.metadata.correlation_id, &e.uri);
        answer(order, "request-head", None).await
    }

    async fn on_request_body_chunk(&self, e: RequestBodyChunkEvent) -> AgentResponse {
        let chunk = Chunk {
            data: &e.data,
            index: e.chunk_index,
            last: e.is_last,
        };
        answer(self.orders.get(&e.correlation_id), "request-chunk", Some(chunk)).await
    }

    async fn on_response_headers(&self, e: ResponseHeadersEvent) -> AgentResponse {
        answer(self.orders.get(&e.correlation_id), "response-head", None).await
    }

    async fn on_response_body_chunk(&self, e: ResponseBodyChunkEvent) -> AgentResponse {
        let chunk = Chunk {
            data: &e.data,
            index: e.chunk_index,
            last: e.is_last,
        };
        answer(self.orders.get(&e.correlation_id), "response-chunk", Some(chunk)).await
    }

    async fn on_request_complete(&self, e: RequestCompleteEvent) -> AgentResponse {
        self.orders.end(&e.correlation_id, e.status);
        AgentResponse::default_allow()
    }
}

#[tokio::main]
async fn main() {
    let path = std::env::args().nth(1).expect("usage: interop-plain SOCKET");
    let server = UdsAgentServerV2::new("interop", path, Box::new(Agent::default()));
    server.run().await.expect("the server");
}
