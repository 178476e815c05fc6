//! The rows of the published micro-benchmark on the crates that the reference
//! uses, behind the same lines as bench/micro (see micro.h there): both are run
//! side by side by bench/micro.py.

mod records;
mod state;

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

/// A row: makes its state once, then runs n iterations.
pub type Run = Box<dyn FnMut(u64)>;
pub type Setup = fn(usize) -> Run;

pub struct Row {
    pub name: String,
    pub setup: Setup,
    pub arg: usize,
}

pub fn row(rows: &mut Vec<Row>, name: &str, setup: Setup, arg: usize) {
    rows.push(Row { name: name.to_string(), setup, arg });
}

pub fn pin_to(cpu: usize) {
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set);
    }
}

fn time_run(run: &mut Run, n: u64) -> f64 {
    let start = Instant::now();
    run(n);
    start.elapsed().as_nanos() as f64
}

fn measure(run: &mut Run, ms: f64) -> f64 {
    let want = ms * 1e6;
    let mut n = 1u64;
    let mut took;
    loop {
        took = time_run(run, n);
        if took >= want / 20.0 || n >= 1 << 40 {
            break;
        }
        n *= if took < want / 400.0 { 8 } else { 2 };
    }
    n = (n as f64 * want / took.max(1.0)) as u64 + 1;
    time_run(run, n) / n as f64
}

fn main() {
    let mut rows = Vec::new();
    state::rows(&mut rows);
    records::rows(&mut rows);
    let mut made: HashMap<String, Run> = HashMap::new();
    let stdout = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut out = stdout.lock();
        if words[0] == "list" {
            for r in &rows {
                writeln!(out, "{} reference", r.name).unwrap();
            }
            writeln!(out).unwrap();
        } else {
            let r = rows.iter().find(|r| r.name == words[0]).expect("a row");
            let run = made
                .entry(r.name.clone())
                .or_insert_with(|| (r.setup)(r.arg));
            let ns = measure(run, words[2].parse().unwrap());
            writeln!(out, "{ns:.4}").unwrap();
        }
        out.flush().unwrap();
    }
}
