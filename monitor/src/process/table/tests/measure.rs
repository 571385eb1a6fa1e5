//! Figures, printed and not asserted: `cargo test --release -p egresswatch measure -- --ignored --nocapture`.

use super::*;

fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = pages.split_whitespace().nth(1).expect("resident").parse().expect("number");
    pages * 4096
}

#[test]
#[ignore = "prints figures, asserts nothing"]
fn measure() {
    const PROCESSES: u32 = 60_000;
    let host = Host::new();
    let mut table = host.seeded();
    let before = resident_bytes();
    let start = Instant::now();
    let path = "/usr/lib/some-application/bin/worker";
    let keys: Vec<ProcessKey> = (0..PROCESSES).map(|index| key(1_000 + index, 6_000 + u64::from(index))).collect();
    for pair in keys.windows(2) {
        table.fork(&fork(if pair[0].pid % 8 == 0 { pair[0] } else { SHELL }, pair[1]));
        table.exec(&exec(pair[1], file(u64::from(pair[1].pid) % 500), path));
    }
    let per_process = start.elapsed() / PROCESSES;
    let held_bytes = (resident_bytes() - before) / u64::from(PROCESSES);
    println!("fork + exec {per_process:?}, {held_bytes} bytes held per process");

    let mut identities: Vec<Identity> =
        keys.iter().skip(1).map(|key| identity(*key, Some(file(u64::from(key.pid) % 500)))).collect();
    let count = u32::try_from(identities.len()).expect("count");
    for round in ["first", "warm"] {
        let start = Instant::now();
        for identity in &identities {
            std::hint::black_box(table.resolve(identity));
        }
        println!("resolve, {round}: {:?}", start.elapsed() / count);
    }
    for identity in &mut identities {
        identity.thread_id += 1;
    }
    let start = Instant::now();
    for identity in &identities {
        std::hint::black_box(table.resolve(identity));
    }
    println!("resolve, another thread: {:?}", start.elapsed() / count);
    let one = &identities[7];
    let start = Instant::now();
    for _ in 0..1_000_000 {
        std::hint::black_box(table.resolve(one));
    }
    println!("resolve, one process again: {:?}", start.elapsed() / 1_000_000);
    println!("bytes held per process with an answer: {}", (resident_bytes() - before) / u64::from(PROCESSES));
    let start = Instant::now();
    let mut live = Table::new(Roots::default(), HostFacts::read(&Roots::default()).expect("facts"), &Config::default());
    let running = live.seed().expect("seed");
    println!("seed of {running} real processes: {:?}", start.elapsed());
}
