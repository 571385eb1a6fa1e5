//! Writes small MMDB files for tests, by the published format (<https://maxmind.github.io/MaxMind-DB/>).

use ipnet::IpNet;

/// A value of a record.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(&'static str),
    Number(u32),
    Map(Vec<(&'static str, Value)>),
}

/// A file with a tree for IPv6, in which IPv4 lies below `::/96`.
pub(crate) fn mmdb(kind: &'static str, build_epoch: u32, networks: &[(&str, Value)]) -> Vec<u8> {
    /// A place in the tree: nothing, another node, or data.
    #[derive(Clone, Copy)]
    enum Branch {
        Empty,
        Node(usize),
        Data(usize),
    }
    let mut nodes = vec![[Branch::Empty; 2]];
    let mut data = Vec::new();
    for (network, value) in networks {
        let (bits, length) = match network.parse().expect("a network") {
            IpNet::V4(network) => (u128::from(network.network().to_bits()), u32::from(network.prefix_len()) + 96),
            IpNet::V6(network) => (network.network().to_bits(), u32::from(network.prefix_len())),
        };
        let offset = data.len();
        encode(&mut data, value);
        let mut at = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                nodes[at][side] = Branch::Data(offset);
            } else if let Branch::Node(next) = nodes[at][side] {
                at = next;
            } else {
                nodes.push([Branch::Empty; 2]);
                nodes[at][side] = Branch::Node(nodes.len() - 1);
                at = nodes.len() - 1;
            }
        }
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for branch in nodes.into_iter().flatten() {
        let record = match branch {
            Branch::Empty => count,
            Branch::Node(node) => node,
            Branch::Data(offset) => count + 16 + offset,
        };
        file.extend(u32::try_from(record).expect("a small file").to_be_bytes());
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    // A map of nine entries.
    file.push(7 << 5 | 9);
    // Unsigned integers have types of their own by width: 5 for 16 bits, 6 for 32, and 9, which is written as 2, for 64.
    for (key, value) in [
        ("binary_format_major_version", 2_u16),
        ("binary_format_minor_version", 0),
        ("ip_version", 6),
        ("record_size", 32),
    ] {
        encode(&mut file, &Value::Text(key));
        file.push(5 << 5 | 2);
        file.extend(value.to_be_bytes());
    }
    encode(&mut file, &Value::Text("build_epoch"));
    file.extend([8, 2]);
    file.extend(u64::from(build_epoch).to_be_bytes());
    encode(&mut file, &Value::Text("node_count"));
    encode(&mut file, &Value::Number(u32::try_from(count).expect("a small file")));
    encode(&mut file, &Value::Text("database_type"));
    encode(&mut file, &Value::Text(kind));
    encode(&mut file, &Value::Text("description"));
    encode(&mut file, &Value::Map(Vec::new()));
    encode(&mut file, &Value::Text("languages"));
    // An empty array.
    file.extend([0, 4]);
    file
}

fn encode(data: &mut Vec<u8>, value: &Value) {
    let mut control = |kind: u8, size: usize| match u8::try_from(size).expect("a small value") {
        size @ ..0x1d => data.push(kind << 5 | size),
        size => data.extend([kind << 5 | 0x1d, size - 0x1d]),
    };
    match value {
        Value::Text(text) => {
            control(2, text.len());
            data.extend(text.as_bytes());
        }
        Value::Number(number) => {
            control(6, 4);
            data.extend(number.to_be_bytes());
        }
        Value::Map(entries) => {
            control(7, entries.len());
            for (key, value) in entries {
                encode(data, &Value::Text(key));
                encode(data, value);
            }
        }
    }
}
