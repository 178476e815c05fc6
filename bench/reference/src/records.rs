//! Serialization and headers: rows 4 to 8.

use crate::{row, Row, Run};
use base64::{engine::general_purpose::STANDARD, Engine};
use serde::{Deserialize, Serialize};
use smallvec::{smallvec, SmallVec};
use std::collections::HashMap;
use std::hint::black_box;

#[derive(Serialize, Deserialize)]
pub struct Event {
    correlation_id: String,
    method: String,
    uri: String,
    headers: HashMap<String, Vec<String>>,
    client_ip: String,
    tls_version: Option<String>,
}

fn headers(pairs: &[(&str, &[&str])]) -> HashMap<String, Vec<String>> {
    pairs
        .iter()
        .map(|(n, v)| (n.to_string(), v.iter().map(|s| s.to_string()).collect()))
        .collect()
}

pub fn small() -> Event {
    Event {
        correlation_id: "bench-12345".into(),
        method: "GET".into(),
        uri: "/api/v1/users".into(),
        headers: headers(&[
            ("host", &["example.com"]),
            ("user-agent", &["benchmark/1.0"]),
            ("accept", &["*/*"]),
        ]),
        client_ip: "192.168.1.100".into(),
        tls_version: Some("TLSv1.3".into()),
    }
}

fn large() -> Event {
    Event {
        correlation_id: "bench-large-12345-67890".into(),
        method: "POST".into(),
        uri: "/api/v2/orders/create?include=items,shipping&format=json".into(),
        headers: headers(&[
            ("host", &["api.example.com"]),
            (
                "user-agent",
                &["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36"],
            ),
            ("accept", &["application/json", "text/plain", "*/*"]),
            ("accept-language", &["en-US,en;q=0.9"]),
            ("accept-encoding", &["gzip, deflate, br"]),
            ("content-type", &["application/json"]),
            ("content-length", &["1024"]),
            (
                "authorization",
                &["Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9\
                   .eyJzdWIiOiIxMjM0NTY3ODkwIn0"],
            ),
            ("cookie", &["session=abc123; tracking=xyz789"]),
            ("x-request-id", &["req-12345-67890"]),
            ("x-correlation-id", &["corr-abcdef-123456"]),
            (
                "x-forwarded-for",
                &["203.0.113.195, 70.41.3.18, 150.172.238.178"],
            ),
            ("x-forwarded-proto", &["https"]),
            ("x-forwarded-host", &["api.example.com"]),
            ("x-real-ip", &["203.0.113.195"]),
            ("cache-control", &["no-cache"]),
            ("pragma", &["no-cache"]),
            ("origin", &["https://app.example.com"]),
            ("referer", &["https://app.example.com/dashboard"]),
            ("sec-fetch-dest", &["empty"]),
            ("sec-fetch-mode", &["cors"]),
            ("sec-fetch-site", &["same-site"]),
        ]),
        client_ip: "203.0.113.195".into(),
        tls_version: Some("TLSv1.3".into()),
    }
}

fn sample(is_large: usize) -> Event {
    if is_large == 1 { large() } else { small() }
}

fn ser_json(arg: usize) -> Run {
    let event = sample(arg);
    assert_eq!(serde_json::to_vec(&event).unwrap().len(), [204, 1080][arg]);
    Box::new(move |n| {
        for _ in 0..n {
            black_box(serde_json::to_vec(black_box(&event)).unwrap());
        }
    })
}

fn ser_msgpack(arg: usize) -> Run {
    let event = sample(arg);
    assert_eq!(rmp_serde::to_vec(&event).unwrap().len(), [110, 894][arg]);
    Box::new(move |n| {
        for _ in 0..n {
            black_box(rmp_serde::to_vec(black_box(&event)).unwrap());
        }
    })
}

fn de_json(arg: usize) -> Run {
    let bytes = serde_json::to_vec(&sample(arg)).unwrap();
    Box::new(move |n| {
        for _ in 0..n {
            let e: Event = serde_json::from_slice(black_box(&bytes)).unwrap();
            black_box(e);
        }
    })
}

fn de_msgpack(arg: usize) -> Run {
    let bytes = rmp_serde::to_vec(&sample(arg)).unwrap();
    Box::new(move |n| {
        for _ in 0..n {
            let e: Event = rmp_serde::from_slice(black_box(&bytes)).unwrap();
            black_box(e);
        }
    })
}

// ---- headers ----------------------------------------------------------------

fn vec_single(_: usize) -> Run {
    Box::new(|n| {
        for _ in 0..n {
            let v: Vec<String> = vec![black_box("application/json").to_string()];
            black_box(v);
        }
    })
}

fn smallvec_single(_: usize) -> Run {
    Box::new(|n| {
        for _ in 0..n {
            let v: SmallVec<[String; 1]> =
                smallvec![black_box("application/json").to_string()];
            black_box(v);
        }
    })
}

fn vec_multi(_: usize) -> Run {
    Box::new(|n| {
        for _ in 0..n {
            let v: Vec<String> = vec![
                black_box("text/html").to_string(),
                black_box("application/json").to_string(),
                black_box("*/*").to_string(),
            ];
            black_box(v);
        }
    })
}

fn smallvec_multi(_: usize) -> Run {
    Box::new(|n| {
        for _ in 0..n {
            let v: SmallVec<[String; 1]> = smallvec![
                black_box("text/html").to_string(),
                black_box("application/json").to_string(),
                black_box("*/*").to_string(),
            ];
            black_box(v);
        }
    })
}

const TWENTY: [(&str, &str); 20] = [
    ("host", "example.com"),
    ("user-agent", "benchmark/1.0"),
    ("accept", "application/json"),
    ("accept-language", "en-US"),
    ("accept-encoding", "gzip"),
    ("content-type", "application/json"),
    ("content-length", "1024"),
    ("authorization", "Bearer token"),
    ("cookie", "session=abc"),
    ("x-request-id", "req-123"),
    ("x-correlation-id", "corr-456"),
    ("x-forwarded-for", "1.2.3.4"),
    ("x-forwarded-proto", "https"),
    ("x-real-ip", "1.2.3.4"),
    ("cache-control", "no-cache"),
    ("pragma", "no-cache"),
    ("origin", "https://app.example.com"),
    ("referer", "https://app.example.com/"),
    ("sec-fetch-dest", "empty"),
    ("sec-fetch-mode", "cors"),
];

fn vec_map(_: usize) -> Run {
    Box::new(|n| {
        for _ in 0..n {
            let mut m: HashMap<String, Vec<String>> = HashMap::new();
            for (name, value) in black_box(&TWENTY) {
                m.insert(name.to_string(), vec![value.to_string()]);
            }
            black_box(m);
        }
    })
}

fn smallvec_map(_: usize) -> Run {
    Box::new(|n| {
        for _ in 0..n {
            let mut m: HashMap<String, SmallVec<[String; 1]>> = HashMap::new();
            for (name, value) in black_box(&TWENTY) {
                m.insert(name.to_string(), smallvec![value.to_string()]);
            }
            black_box(m);
        }
    })
}

fn custom() -> Vec<(String, Vec<String>)> {
    let mut all = vec![
        ("accept".into(), vec!["text/html".into(), "application/json".into()]),
        ("host".into(), vec!["example.com".into()]),
        ("user-agent".into(), vec!["benchmark/1.0".into()]),
    ];
    for i in 0..17 {
        all.push((format!("x-custom-{i}"), vec![format!("value-{i}")]));
    }
    all
}

fn vec_flat(_: usize) -> Run {
    let m: HashMap<String, Vec<String>> = custom().into_iter().collect();
    Box::new(move |n| {
        for _ in 0..n {
            let count = black_box(&m)
                .iter()
                .flat_map(|(name, values)| values.iter().map(move |v| (name, v)))
                .count();
            black_box(count);
        }
    })
}

fn small_map() -> HashMap<String, SmallVec<[String; 1]>> {
    custom()
        .into_iter()
        .map(|(n, v)| (n, v.into_iter().collect()))
        .collect()
}

fn smallvec_flat(_: usize) -> Run {
    let m = small_map();
    Box::new(move |n| {
        for _ in 0..n {
            let count = black_box(&m)
                .iter()
                .flat_map(|(name, values)| values.iter().map(move |v| (name, v)))
                .count();
            black_box(count);
        }
    })
}

fn vec_collect(_: usize) -> Run {
    let m: HashMap<String, Vec<String>> = custom().into_iter().collect();
    Box::new(move |n| {
        for _ in 0..n {
            let all: Vec<(&str, &str)> = black_box(&m)
                .iter()
                .flat_map(|(name, values)| {
                    values.iter().map(move |v| (name.as_str(), v.as_str()))
                })
                .collect();
            black_box(all);
        }
    })
}

fn smallvec_collect(_: usize) -> Run {
    let m = small_map();
    Box::new(move |n| {
        for _ in 0..n {
            let all: Vec<(&str, &str)> = black_box(&m)
                .iter()
                .flat_map(|(name, values)| {
                    values.iter().map(move |v| (name.as_str(), v.as_str()))
                })
                .collect();
            black_box(all);
        }
    })
}

// ---- body chunks --------------------------------------------------------------

#[derive(Serialize, Deserialize)]
struct TextChunk {
    correlation_id: String,
    data: String,
    is_last: bool,
    chunk_index: u32,
}

#[derive(Serialize, Deserialize)]
struct BinaryChunk {
    correlation_id: String,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
    is_last: bool,
    chunk_index: u32,
}

fn data(size: usize) -> Vec<u8> {
    (0..size).map(|i| i as u8).collect()
}

fn text_chunk(size: usize) -> TextChunk {
    TextChunk {
        correlation_id: "bench-123".into(),
        data: STANDARD.encode(data(size)),
        is_last: false,
        chunk_index: 0,
    }
}

fn binary_chunk(size: usize) -> BinaryChunk {
    BinaryChunk {
        correlation_id: "bench-123".into(),
        data: data(size),
        is_last: false,
        chunk_index: 0,
    }
}

fn ser_text(size: usize) -> Run {
    let chunk = text_chunk(size);
    Box::new(move |n| {
        for _ in 0..n {
            black_box(serde_json::to_vec(black_box(&chunk)).unwrap());
        }
    })
}

fn ser_binary(size: usize) -> Run {
    let chunk = binary_chunk(size);
    Box::new(move |n| {
        for _ in 0..n {
            black_box(rmp_serde::to_vec(black_box(&chunk)).unwrap());
        }
    })
}

fn de_text(size: usize) -> Run {
    let bytes = serde_json::to_vec(&text_chunk(size)).unwrap();
    Box::new(move |n| {
        for _ in 0..n {
            let c: TextChunk = serde_json::from_slice(black_box(&bytes)).unwrap();
            black_box(c);
        }
    })
}

fn de_binary(size: usize) -> Run {
    let bytes = rmp_serde::to_vec(&binary_chunk(size)).unwrap();
    Box::new(move |n| {
        for _ in 0..n {
            let c: BinaryChunk = rmp_serde::from_slice(black_box(&bytes)).unwrap();
            black_box(c);
        }
    })
}

/// Into room that is there, as the C row: no allocation.
fn base64_encode(size: usize) -> Run {
    let raw = data(size);
    let mut out = vec![0u8; size * 2];
    Box::new(move |n| {
        for _ in 0..n {
            black_box(STANDARD.encode_slice(black_box(&raw), &mut out).unwrap());
        }
    })
}

fn base64_decode(size: usize) -> Run {
    let text = STANDARD.encode(data(size));
    let mut out = vec![0u8; size * 2];
    Box::new(move |n| {
        for _ in 0..n {
            black_box(STANDARD.decode_slice(black_box(&text), &mut out).unwrap());
        }
    })
}

/// What a JSON chunk costs, base64 included.
fn whole_chunk(size: usize) -> Run {
    let raw = data(size);
    Box::new(move |n| {
        for _ in 0..n {
            let chunk = TextChunk {
                correlation_id: "bench-123".into(),
                data: STANDARD.encode(black_box(&raw)),
                is_last: false,
                chunk_index: 0,
            };
            black_box(serde_json::to_vec(&chunk).unwrap());
        }
    })
}

pub fn rows(rows: &mut Vec<Row>) {
    row(rows, "serialization/json_small", ser_json, 0);
    row(rows, "serialization/json_large", ser_json, 1);
    row(rows, "serialization/msgpack_small", ser_msgpack, 0);
    row(rows, "serialization/msgpack_large", ser_msgpack, 1);
    row(rows, "deserialization/json_small", de_json, 0);
    row(rows, "deserialization/json_large", de_json, 1);
    row(rows, "deserialization/msgpack_small", de_msgpack, 0);
    row(rows, "deserialization/msgpack_large", de_msgpack, 1);
    row(rows, "header_allocation/vec_single_value", vec_single, 0);
    row(rows, "header_allocation/smallvec_single_value", smallvec_single, 0);
    row(rows, "header_allocation/vec_multi_value", vec_multi, 0);
    row(rows, "header_allocation/smallvec_multi_value", smallvec_multi, 0);
    row(rows, "header_map_creation/vec_map_20_headers", vec_map, 0);
    row(rows, "header_map_creation/smallvec_map_20_headers", smallvec_map, 0);
    row(rows, "header_iteration/vec_iter_flat", vec_flat, 0);
    row(rows, "header_iteration/smallvec_iter_flat", smallvec_flat, 0);
    row(rows, "header_iteration/vec_collect_to_grpc", vec_collect, 0);
    row(rows, "header_iteration/smallvec_collect_to_grpc", smallvec_collect, 0);
    for size in [1024, 4096, 16384, 65536] {
        let name = |group: &str, kind: &str| format!("body_chunk_{group}/{kind}/{size}");
        row(rows, &name("serialization", "json_base64"), ser_text, size);
        row(rows, &name("serialization", "msgpack_binary"), ser_binary, size);
        row(rows, &name("deserialization", "json_base64"), de_text, size);
        row(rows, &name("deserialization", "msgpack_binary"), de_binary, size);
    }
    for size in [1024, 65536] {
        row(rows, &format!("own/base64_encode/{size}"), base64_encode, size);
        row(rows, &format!("own/base64_decode/{size}"), base64_decode, size);
        row(rows, &format!("own/chunk_json_with_base64/{size}"), whole_chunk, size);
    }
}
