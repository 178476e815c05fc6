//! Tables, flags, clocks, counters: rows 1 to 3 and 9 to 11.

use crate::records::{small, Event};
use crate::{pin_to, row, Row, Run};
use dashmap::DashMap;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn agents(n: usize) -> DashMap<String, Arc<String>> {
    let map = DashMap::new();
    for i in 0..n {
        map.insert(format!("agent-{i}"), Arc::new(format!("value-{i}")));
    }
    map
}

fn dashmap(n: usize) -> Run {
    let map = agents(n);
    let key = format!("agent-{}", n / 2);
    Box::new(move |n| {
        for _ in 0..n {
            let v = map.get(black_box(&key)).map(|r| r.value().clone());
            black_box(v);
        }
    })
}

fn rwlock_map(n: usize) -> Run {
    let mut map = HashMap::new();
    for i in 0..n {
        map.insert(format!("agent-{i}"), Arc::new(format!("value-{i}")));
    }
    let map = RwLock::new(map);
    let key = format!("agent-{}", n / 2);
    Box::new(move |n| {
        for _ in 0..n {
            let v = map.read().get(black_box(&key)).cloned();
            black_box(v);
        }
    })
}

/// Time per look-up of each thread, while another writes 10,000 times a second.
fn dashmap_threads(readers: usize) -> Run {
    let map = Arc::new(agents(100));
    let key = "agent-50".to_string();
    let look = |map: &DashMap<String, Arc<String>>, key: &String, n: u64| {
        for _ in 0..n {
            black_box(map.get(black_box(key)).map(|r| r.value().clone()));
        }
    };
    Box::new(move |n| {
        if n < 1000 {
            look(&map, &key, n);
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (m, s) = (map.clone(), stop.clone());
        let extra = Arc::new("extra".to_string());
        let writer = std::thread::spawn(move || {
            while !s.load(Relaxed) {
                m.insert("agent-extra".to_string(), extra.clone());
                m.remove("agent-extra");
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let other = (readers > 1).then(|| {
            let (m, k) = (map.clone(), key.clone());
            std::thread::spawn(move || {
                pin_to(0);
                look(&m, &k, n);
            })
        });
        look(&map, &key, n);
        if let Some(t) = other {
            t.join().unwrap();
        }
        stop.store(true, Relaxed);
        writer.join().unwrap();
    })
}

fn atomic_read(_: usize) -> Run {
    let v = AtomicBool::new(true);
    Box::new(move |n| {
        for _ in 0..n {
            black_box(black_box(&v).load(Relaxed));
        }
    })
}

fn rwlock_read(_: usize) -> Run {
    let v = RwLock::new(true);
    Box::new(move |n| {
        for _ in 0..n {
            black_box(*black_box(&v).read());
        }
    })
}

fn atomic_write(_: usize) -> Run {
    let v = AtomicBool::new(true);
    Box::new(move |n| {
        for _ in 0..n {
            black_box(&v).store(black_box(true), Relaxed);
        }
    })
}

fn rwlock_write(_: usize) -> Run {
    let v = RwLock::new(true);
    Box::new(move |n| {
        for _ in 0..n {
            *black_box(&v).write() = black_box(true);
        }
    })
}

fn atomic_touch(_: usize) -> Run {
    let base = Instant::now();
    let last = AtomicU64::new(0);
    Box::new(move |n| {
        for _ in 0..n {
            black_box(&last).store(base.elapsed().as_millis() as u64, Relaxed);
        }
    })
}

fn rwlock_touch(_: usize) -> Run {
    let last = RwLock::new(Instant::now());
    Box::new(move |n| {
        for _ in 0..n {
            *black_box(&last).write() = Instant::now();
        }
    })
}

fn touched_atomic(_: usize) -> Run {
    let base = Instant::now();
    let last = AtomicU64::new(5);
    Box::new(move |n| {
        for _ in 0..n {
            let ms = black_box(&last).load(Relaxed);
            black_box(base + Duration::from_millis(ms));
        }
    })
}

fn touched_rwlock(_: usize) -> Run {
    let last = RwLock::new(Instant::now());
    Box::new(move |n| {
        for _ in 0..n {
            black_box(*black_box(&last).read());
        }
    })
}

fn increment(_: usize) -> Run {
    let v = AtomicU64::new(0);
    Box::new(move |n| {
        for _ in 0..n {
            black_box(black_box(&v).fetch_add(1, Relaxed));
        }
    })
}

fn counter_read(_: usize) -> Run {
    let v = AtomicU64::new(0);
    Box::new(move |n| {
        for _ in 0..n {
            black_box(black_box(&v).load(Relaxed));
        }
    })
}

fn histogram(_: usize) -> Run {
    const BOUNDS: [u64; 9] = [10, 50, 100, 250, 500, 1000, 2500, 5000, 10000];
    let buckets: [AtomicU64; 9] = Default::default();
    let mut v = 0u64;
    Box::new(move |n| {
        for _ in 0..n {
            v = (v + 37) % 15000;
            let i = BOUNDS.iter().position(|b| v <= *b).unwrap_or(8);
            black_box(&buckets)[i].fetch_add(1, Relaxed);
        }
    })
}

fn affinity(n: usize) -> DashMap<String, Arc<String>> {
    let map = DashMap::new();
    for i in 0..n {
        map.insert(format!("corr-{i}"), Arc::new(format!("conn-{}", i % 4)));
    }
    map
}

fn find(map: DashMap<String, Arc<String>>, key: String) -> Run {
    Box::new(move |n| {
        for _ in 0..n {
            black_box(map.get(black_box(&key)));
        }
    })
}

fn hit(n: usize) -> Run {
    find(affinity(n), format!("corr-{}", n / 2))
}

fn miss(n: usize) -> Run {
    find(affinity(n), format!("corr-{}", n + 1))
}

fn insert(n: usize) -> Run {
    let map = affinity(n);
    let key = format!("new-corr-{n}");
    let conn = Arc::new("conn-0".to_string());
    Box::new(move |n| {
        for _ in 0..n {
            map.insert(black_box(&key).clone(), conn.clone());
            black_box(map.remove(black_box(&key)));
        }
    })
}

/// Six operations on maps and counters around one serialization.
fn path(msgpack: usize) -> Run {
    let agents: DashMap<String, String> = DashMap::new();
    let affinity: DashMap<String, Arc<String>> = DashMap::new();
    let healthy = AtomicBool::new(true);
    let (requests, in_flight) = (AtomicU64::new(0), AtomicU64::new(0));
    let event: Event = small();
    agents.insert("waf".to_string(), "waf-agent".to_string());
    Box::new(move |n| {
        for _ in 0..n {
            let agent = agents.get(black_box("waf"));
            black_box(affinity.get(black_box("bench-123")));
            black_box(healthy.load(Relaxed));
            requests.fetch_add(1, Relaxed);
            in_flight.fetch_add(1, Relaxed);
            let payload = if msgpack == 1 {
                rmp_serde::to_vec(black_box(&event)).unwrap()
            } else {
                serde_json::to_vec(black_box(&event)).unwrap()
            };
            affinity.insert("bench-123".to_string(), Arc::new("conn-0".to_string()));
            in_flight.fetch_sub(1, Relaxed);
            affinity.remove("bench-123");
            black_box(&agent);
            black_box(payload);
        }
    })
}

pub fn rows(rows: &mut Vec<Row>) {
    for n in [1, 10, 100, 1000] {
        row(rows, &format!("agent_lookup/dashmap/{n}"), dashmap, n);
        row(rows, &format!("agent_lookup/rwlock_hashmap/{n}"), rwlock_map, n);
    }
    row(rows, "health_cache/atomic_read", atomic_read, 0);
    row(rows, "health_cache/rwlock_read", rwlock_read, 0);
    row(rows, "health_cache/atomic_write", atomic_write, 0);
    row(rows, "health_cache/rwlock_write", rwlock_write, 0);
    row(rows, "timestamp_tracking/atomic_touch", atomic_touch, 0);
    row(rows, "timestamp_tracking/rwlock_touch", rwlock_touch, 0);
    row(rows, "timestamp_tracking/atomic_read", touched_atomic, 0);
    row(rows, "timestamp_tracking/rwlock_read", touched_rwlock, 0);
    row(rows, "protocol_metrics/counter_increment", increment, 0);
    row(rows, "protocol_metrics/counter_read", counter_read, 0);
    row(rows, "protocol_metrics/histogram_record", histogram, 0);
    for n in [10, 100, 1000, 10000] {
        row(rows, &format!("connection_affinity/lookup_hit/{n}"), hit, n);
        row(rows, &format!("connection_affinity/lookup_miss/{n}"), miss, n);
        row(rows, &format!("connection_affinity/insert/{n}"), insert, n);
    }
    row(rows, "full_request_path/json_path", path, 0);
    row(rows, "full_request_path/msgpack_path", path, 1);
    row(rows, "own/agent_lookup_writer/1_thread", dashmap_threads, 1);
    row(rows, "own/agent_lookup_writer/2_threads", dashmap_threads, 2);
}
