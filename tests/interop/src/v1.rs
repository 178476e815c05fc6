//! interop-v1 SOCKET: an agent on the crate's v1 server. See decide.rs.
use async_trait::async_trait;
use sentinel_agent_protocol as proto;
use sentinel_agent_protocol::{
    AgentHandler, AgentServer, ConfigureEvent, RequestBodyChunkEvent, RequestCompleteEvent,
    RequestHeadersEvent, ResponseBodyChunkEvent, ResponseHeadersEvent,
};

include!("decide.rs");

#[derive(Default)]
struct Agent {
    orders: Orders,
}

#[async_trait]
impl AgentHandler for Agent {
    async fn on_configure(&self, e: ConfigureEvent) -> AgentResponse {
        if accepted(&e.config) {
            return AgentResponse::default_allow();
        }
        AgentResponse::block(500, Some("not with this".into()))
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
    let path = std::env::args().nth(1).expect("usage: interop-v1 SOCKET");
    let server = AgentServer::new("interop", path, Box::new(Agent::default()));
    server.run().await.expect("the server");
}
