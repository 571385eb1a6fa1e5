//! Facts for tests: the mission's scenario, and records with every field set.

use std::{net::SocketAddr, sync::Arc};

use super::{
    RecordBuilder, Timestamp, WallClock,
    input::{Degradation, Host, Loss, LossStage, OUTPUT_QUEUE_FULL, Phase, Status, Subject},
};
use crate::{
    containers::{ContainerFacts, ContainerGap, DescribedBy, Description, Labels, Pod},
    event::{BootTime, FileId, Flow, FlowCounters, FlowFacts, FlowKey, Identity, ProcessKey, Protocol, ReportReason},
    executables::{FileFacts, Gap, Package, Sha256},
    names::{FlowNames, Host as NamedHost, HostName, NameCaveat, Named, Proxied, ProxyProtocol, Scope, Source},
    ownership::{CountryCode, Owner},
    policy::{
        Cause, ContactKey, Decision, Increase, Level, ListHeader, Match, MatchKey, Relation, Severity, Totals,
        rules::{Action, Evidence, RuleCause, RuleDecision, RuleHeader},
    },
    process::{Account, Ancestor, Container, Executable, Matching, PathQuality, Process},
};

/// The boot was at 10:00:00 on 2026-11-23, UTC.
pub(crate) const CLOCK: WallClock = WallClock { boot_wall_ns: 1_795_428_000_000_000_000 };

/// 63 minutes and 4 seconds after the boot: 11:03:04.
const NOW_NS: u64 = 3_784_000_000_000;

/// Everything a flow's record is made from, owned.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) flow: Flow,
    pub(crate) actor: Option<Process>,
    pub(crate) connector: Option<Process>,
    pub(crate) file: Option<FileFacts>,
    pub(crate) container: Option<ContainerFacts>,
    pub(crate) owner: Owner,
    pub(crate) names: FlowNames,
    pub(crate) target_owner: Option<Owner>,
    pub(crate) matches: Vec<Match>,
}

impl Scene {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            flow: &self.flow,
            actor: self.actor.as_ref(),
            connector: self.connector.as_ref(),
            file: self.file.as_ref(),
            container: self.container.as_ref(),
            owner: &self.owner,
            ownership_date: jiff::civil::date(2026, 6, 17),
            names: &self.names,
            target_owner: self.target_owner.as_ref(),
            matches: &self.matches,
        }
    }
}

pub(crate) fn builder() -> RecordBuilder {
    RecordBuilder::new(
        "6f1c9d52-18c8bb2f3a0".to_owned(),
        Host {
            hostname: "workstation".to_owned(),
            machine_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
            boot_id: Some("6f1c9d52-8a55-4a3a-9d0e-3f2f0d1b7c11".to_owned()),
            architecture: Some("x86_64".to_owned()),
            kernel: Some("6.12.9-amd64".to_owned()),
            os_name: Some("Debian GNU/Linux".to_owned()),
            os_platform: Some("debian".to_owned()),
            os_version: Some("13".to_owned()),
        },
    )
}

/// Chromium posts 1.4 kB to China Mobile's passport service.
pub(crate) fn chromium() -> Scene {
    let process = chromium_process();
    let at = BootTime(NOW_NS);
    let first_at = BootTime(NOW_NS - 31_000_000);
    Scene {
        flow: Flow {
            key: FlowKey { socket_cookie: 0x5a1, protocol: Protocol::Tcp, remote: address("120.232.0.1:443") },
            reason: ReportReason::FirstPayload,
            at,
            connector: Some(identity(&process)),
            sender: None,
            local: Some(address("192.168.1.20:41522")),
            translated: None,
            link: None,
            facts: FlowFacts { attempted: true, established: true, sent: true, flagged: true, ..FlowFacts::default() },
            counters: FlowCounters {
                payload_out_bytes: 1_437,
                payload_in_bytes: 0,
                wire_out_bytes: 1_625,
                wire_in_bytes: 60,
                packets_out: 3,
                packets_in: 1,
                queued_out_bytes: Some(1_437),
                queued_in_bytes: Some(0),
                before_out_bytes: None,
                before_in_bytes: None,
            },
            first_at,
            established_at: Some(BootTime(NOW_NS - 2_000_000)),
            first_sent_at: Some(BootTime(NOW_NS - 1_000_000)),
            last_at: at,
        },
        actor: Some(process.clone()),
        connector: Some(process),
        file: Some(FileFacts::new(
            Ok(Sha256([0x5a; 32])),
            Ok(Package {
                name: "chromium".to_owned(),
                version: Some("140.0.7339.185-1~deb13u1".to_owned()),
                architecture: Some("amd64".to_owned()),
                kind: "dpkg",
            }),
        )),
        container: None,
        owner: Owner {
            asn: Some(9808),
            organisation: Some("China Mobile Communications Group Co., Ltd.".into()),
            as_country: CountryCode::new("CN"),
            registered_country: CountryCode::new("CN"),
        },
        names: FlowNames {
            names: vec![named("cmpassport.com", Source::TlsSni, 1), named("cmpassport.com", Source::Dns, 45)],
            ..FlowNames::default()
        },
        target_owner: None,
        matches: matches(),
    }
}

/// The same, with every field of a flow that the scenario lacks: another sender, a translated address, a container.
pub(crate) fn everything() -> Scene {
    let mut scene = chromium();
    let mut sender = chromium_process();
    sender.key.pid = 4_300;
    sender.entity_id = "chromium-network-service".to_owned();
    sender.effective_user = Some(Account { id: 0, name: Some("root".to_owned()) });
    sender.container = Some(Container {
        id: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        runtime: Some("cri-o".to_owned()),
        pod_uid: Some("2f5c1f9a-6b1e-4a58-9a3b-0d9b2c1f7e10".to_owned()),
    });
    scene.container = Some(ContainerFacts::new(Ok(Description {
        by: DescribedBy::Crio,
        runtime: Some("cri-o"),
        name: Some("browser".to_owned()),
        image: Some(format!("registry.example:5000/shop/browser:140@sha256:{}", "5a".repeat(32))),
        pod: Some(Pod {
            name: Some("browser-7c9d".to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some("2f5c1f9a-6b1e-4a58-9a3b-0d9b2c1f7e10".to_owned()),
        }),
        labels: Some(Labels {
            pairs: [("app", "browser"), ("app.kubernetes.io/part-of", "shop")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            left_out: 1,
        }),
    })));
    scene.flow.sender = Some(identity(&sender));
    scene.flow.translated = Some(address("10.96.3.7:8443"));
    scene.flow.facts.received = true;
    scene.flow.facts.released = true;
    scene.flow.facts.closed = true;
    scene.flow.facts.midstream = true;
    scene.flow.facts.identity_from_creation = true;
    scene.file = Some(FileFacts::new(Err(Gap::Pending), Err(Gap::NotPackaged)));
    scene.actor = Some(sender);
    scene.names = FlowNames {
        names: vec![
            named("cmpassport.com", Source::ProxyConnect, 3),
            Named { offers_ech: true, ..named("public.example", Source::TlsSni, 1) },
            named("login.cmpassport.com", Source::HttpAbsolute, 1),
            Named {
                scope: Scope::NetworkNamespace,
                ttl_s: Some(60),
                asked: HostName::new(b"www.example.com"),
                is_decisive: false,
                ..named("edge.cdn.example", Source::DnsAlias, 5_000)
            },
        ],
        proxied: Some(Proxied {
            protocol: ProxyProtocol::HttpConnect,
            host: NamedHost::Address([120, 232, 0, 9].into()),
            port: Some(443),
        }),
        caveats: vec![NameCaveat::EchOffered],
    };
    scene.target_owner = Some(scene.owner.clone());
    scene
}

/// The browser in a container of Docker's.
pub(crate) fn in_docker() -> Scene {
    let mut scene = in_undescribed_container();
    let labels = [("com.docker.compose.project", "shop"), ("tier", "front")];
    scene.container = Some(ContainerFacts::new(Ok(Description {
        by: DescribedBy::Docker,
        runtime: Some("docker"),
        name: Some("shop-browser-1".to_owned()),
        image: Some("shop/browser:140".to_owned()),
        pod: None,
        labels: Some(Labels {
            pairs: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            left_out: 0,
        }),
    })));
    scene
}

/// The browser in a container of which only the cgroup tells.
pub(crate) fn in_undescribed_container() -> Scene {
    let mut scene = chromium();
    if let Some(actor) = &mut scene.actor {
        actor.container = Some(Container {
            id: "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752".to_owned(),
            runtime: None,
            pod_uid: None,
        });
    }
    scene.container = Some(ContainerFacts::new(Err(ContainerGap::NotFound)));
    scene
}

/// A process about which nothing is known but what it did: an untracked UDP flow over IPv6.
pub(crate) fn unknown() -> Scene {
    let mut scene = chromium();
    scene.flow.key.remote = address("[2409:8c00::1]:53");
    scene.flow.key.protocol = Protocol::Udp;
    scene.flow.connector = None;
    scene.flow.local = None;
    scene.flow.facts = FlowFacts { sent: true, untracked: true, ..FlowFacts::default() };
    scene.flow.established_at = None;
    scene.actor = None;
    scene.connector = None;
    scene.file = None;
    scene.container = None;
    scene.owner = Owner { registered_country: CountryCode::new("CN"), ..Owner::default() };
    scene.names = FlowNames::default();
    scene.matches.truncate(1);
    scene
}

/// A decision of a rule on the scene's flow.
pub(crate) fn rule_decision(scene: &Scene, cause: RuleCause) -> RuleDecision<()> {
    let rule = RuleHeader {
        id: "much-to-one-owner".into(),
        title: "A program sent more than 1 kB to one owner within a day".into(),
        description: Some("Backups do so too.".into()),
        severity: Severity::Medium,
        tags: ["TA0010", "T1048", "T1071.001", "backup"].map(str::to_owned).to_vec(),
        references: vec!["https://attack.mitre.org/techniques/T1048/".to_owned()],
        file: "/etc/egresswatch/rules.d/volume.toml".into(),
        action: Action::Alert,
        enabled: true,
    };
    let evidence = Evidence {
        kind: "bytes_out",
        observed: 1_437,
        limit: Some(1_000),
        window_s: Some(86_400),
        text: "1437 bytes sent within 1d, more than 1000".to_owned(),
    };
    let folded = if cause == RuleCause::Folded { 3 } else { 0 };
    RuleDecision {
        rule: rule.into(),
        cause,
        evidence: Some(evidence),
        folded,
        is_of_many: false,
        level: Level::Sent,
        context: (),
        at: scene.flow.at,
    }
}

/// A decision on the scene's flow.
pub(crate) fn decision(scene: &Scene, cause: Cause, level: Level) -> Decision<()> {
    let first = Totals {
        payload_out_bytes: 1_437,
        payload_in_bytes: 0,
        connections: 1,
        destinations: 1,
        more_destinations: false,
        first_at: scene.flow.first_at,
        last_at: scene.flow.at,
    };
    let (totals, new_matches) = match cause {
        Cause::FirstContact => (first, scene.matches.len()),
        Cause::LevelRaised => (first, 0),
        Cause::NewMatch => (first, 1),
        Cause::Rollup => {
            let (payload_out_bytes, payload_in_bytes) = (1_482_119, 90_210);
            let first_at = BootTime(NOW_NS - 600_000_000_000);
            (Totals { connections: 12, payload_out_bytes, payload_in_bytes, destinations: 3, first_at, ..first }, 0)
        }
    };
    Decision {
        contact: ContactKey::new(scene.actor.as_ref(), &scene.owner, &scene.matches).expect("an owner and matches"),
        cause,
        level,
        severity: Severity::High,
        matches: scene.matches.clone(),
        new_matches,
        totals,
        increase: Increase { payload_out_bytes: 1_437, payload_in_bytes: 0, connections: 1 },
        folded_reports: 0,
        context: (),
        at: scene.flow.at,
    }
}

pub(crate) fn loss() -> Loss {
    Loss {
        stage: LossStage::Output,
        reason: OUTPUT_QUEUE_FULL.into(),
        count: 312,
        total: 1_024,
        since: now(-30),
        recoverable: false,
        output: Some("file /var/log/egresswatch.jsonl".to_owned()),
    }
}

pub(crate) fn degradation() -> Degradation {
    Degradation {
        token: "sender_rung_missing".into(),
        missing: "bytes are counted per packet, and a process that sends on an inherited socket is not told from the \
                  one that connected"
            .to_owned(),
        remedy: Some("run Linux 6.3 or newer with BTF".to_owned()),
    }
}

pub(crate) fn status(phase: Phase) -> Status {
    Status {
        phase,
        reason: match phase {
            Phase::Stopped => Some("signal".to_owned()),
            Phase::Reloaded => Some("file_changed".to_owned()),
            Phase::Started | Phase::Running => None,
        },
        generation: Some(2),
        needs_restart: if phase == Phase::Reloaded { vec!["kernel.flow_ring_size".to_owned()] } else { Vec::new() },
        rung: Some("sender".to_owned()),
        ownership_date: Some(jiff::civil::date(2026, 6, 17)),
        lists: Some(12),
        uptime_ns: Some(7_300_000_000_000),
        flows: Some(20_481),
        alerts: Some(3),
        losses: Some(0),
        degradations: vec!["sender_rung_missing".to_owned()],
    }
}

/// The scenario's moment, `seconds` later.
pub(crate) fn now(seconds: i128) -> Timestamp {
    Timestamp::from_unix_ns(CLOCK.at(BootTime(NOW_NS)).unix_ns() + seconds * 1_000_000_000)
}

fn named(name: &str, source: Source, age_ms: u64) -> Named {
    Named {
        name: HostName::new(name.as_bytes()).expect("a name"),
        source,
        scope: if source == Source::Dns { Scope::Process } else { Scope::Flow },
        seen_at: BootTime(NOW_NS - age_ms * 1_000_000),
        ttl_s: (source == Source::Dns).then_some(300),
        asked: None,
        offers_ech: false,
        is_decisive: true,
    }
}

fn chromium_process() -> Process {
    let ancestor = |pid, entity_id: &str, name: &str, executable: Option<&str>| Ancestor {
        key: ProcessKey { pid, start_ticks: 9_000 },
        entity_id: entity_id.to_owned(),
        name: name.to_owned(),
        executable: executable.map(Into::into),
    };
    Process {
        key: ProcessKey { pid: 4_242, start_ticks: 360_000 },
        entity_id: "chromium-browser".to_owned(),
        matching: Matching::Start,
        thread_id: 4_260,
        name: "chromium".to_owned(),
        comm: "Chrome_ChildIOT".to_owned(),
        executable: Some(Executable {
            path: "/usr/lib/chromium/chromium".into(),
            quality: PathQuality::Exec,
            unlinked: false,
            truncated: false,
            file: Some(FileId { device: 0x80_0001, inode: 524_311 }),
        }),
        arguments: ["/usr/lib/chromium/chromium", "--headless=new", "http://localhost:8000/a page"]
            .map(str::to_owned)
            .to_vec(),
        arguments_truncated: false,
        ancestors: vec![
            ancestor(3_100, "bash-3100", "bash", Some("/usr/bin/bash")),
            ancestor(1, "systemd-1", "systemd", None),
        ],
        user: Account { id: 1_000, name: Some("ada".to_owned()) },
        effective_user: Some(Account { id: 1_000, name: Some("ada".to_owned()) }),
        group: Account { id: 1_000, name: Some("ada".to_owned()) },
        cgroup: Some("/user.slice/user-1000.slice/session-2.scope".to_owned()),
        unit: Some("session-2.scope".to_owned()),
        container: None,
        start_wall_ns: Some(CLOCK.boot_wall_ns + 3_600_000_000_000),
        is_own: false,
    }
}

fn identity(process: &Process) -> Arc<Identity> {
    Arc::new(Identity {
        process: process.key,
        thread_id: process.thread_id,
        user_id: process.user.id,
        group_id: process.group.id,
        effective_user_id: process.effective_user.as_ref().map(|user| user.id),
        cgroup_id: 4_711,
        network_namespace_cookie: Some(1),
        executable: process.executable.as_ref().and_then(|executable| executable.file),
        comm: process.comm.clone(),
    })
}

fn matches() -> Vec<Match> {
    let covered = Arc::new(ListHeader {
        id: "us-fcc-covered".into(),
        title: "FCC Covered List".into(),
        legal_basis: Some("Secure and Trusted Communications Networks Act of 2019, section 2; 47 CFR 1.50002".into()),
        about: "Equipment and services that the FCC says pose an unacceptable risk.".into(),
        source: "https://www.fcc.gov/supplychain/coveredlist".into(),
        as_of: Some(jiff::civil::date(2026, 7, 7)),
        severity: Severity::High,
        enabled: true,
        action: Action::Alert,
    });
    let topical = Arc::new(ListHeader {
        id: "app-deepseek".into(),
        title: "Services seen in DeepSeek's apps and pages".into(),
        legal_basis: None,
        about: "Services that researchers found in the code of DeepSeek's apps and pages.".into(),
        source: "https://example.org/app-deepseek".into(),
        as_of: Some(jiff::civil::date(2026, 11, 1)),
        severity: Severity::High,
        enabled: true,
        action: Action::Alert,
    });
    let covered_match = |key, severity| Match {
        list: Arc::clone(&covered),
        entity: "China Mobile Communications Group".into(),
        relation: Relation::Parent,
        authority: Some("47 CFR 1.50002 (Secure Networks Act, section 2), 2022-03-25".into()),
        key,
        severity,
        verified: true,
    };
    vec![
        covered_match(MatchKey::Domain("cmpassport.com".into()), Severity::Medium),
        covered_match(MatchKey::Asn(9808), Severity::Low),
        Match {
            list: topical,
            entity: "China Mobile number verification (CMPassport)".into(),
            relation: Relation::Topical,
            authority: None,
            key: MatchKey::Domain("cmpassport.com".into()),
            severity: Severity::High,
            verified: false,
        },
    ]
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
