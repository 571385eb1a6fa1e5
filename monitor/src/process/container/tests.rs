use proptest::prelude::*;

use super::*;

const FIRST: &str = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";
const SECOND: &str = "b3c6f2e1a09d48d5e7f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c";
const POD: &str = "2b801b7a-5266-4386-864e-45ed71136371";

/// Fills in a path: `{1}` and `{2}` are ids, `{P}` is the pod's uid and `{p}` the same with underscores.
fn fill(text: &str) -> String {
    text.replace("{1}", FIRST).replace("{2}", SECOND).replace("{P}", POD).replace("{p}", &POD.replace('-', "_"))
}

#[test]
fn each_runtimes_paths_are_told() {
    for (path, id, runtime, pod) in [
        // Docker.
        ("/docker/{1}", "{1}", "docker", ""),
        ("/docker/{1}/init", "{1}", "docker", ""),
        ("/system.slice/docker-{1}.scope", "{1}", "docker", ""),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{1}.scope", "{1}", "docker", ""),
        ("/system.slice/docker-{1}.scope/system.slice/nginx.service", "{1}", "docker", ""),
        ("/system.slice:docker:{1}", "{1}", "docker", ""),
        ("/my-parent/{1}", "{1}", "", ""),
        ("/ecs/0f9de17a6465404c85be/{1}", "{1}", "", ""),
        // containerd.
        ("/k8s.io/{1}", "{1}", "containerd", ""),
        ("/system.slice/cri-containerd-{1}.scope", "{1}", "containerd", ""),
        ("/user.slice/nerdctl-{1}.scope", "{1}", "containerd", ""),
        ("/default/{1}", "{1}", "", ""),
        (
            "/system.slice/containerd.service/kubepods-burstable-pod{p}.slice:cri-containerd:{1}",
            "{1}",
            "containerd",
            "{P}",
        ),
        // cri-o.
        ("/kubepods.slice/kubepods-pod{p}.slice/crio-{1}.scope", "{1}", "cri-o", "{P}"),
        ("/kubepods.slice/kubepods-pod{p}.slice/crio-{1}.scope/container", "{1}", "cri-o", "{P}"),
        ("/kubepods/besteffort/pod{P}/crio-{1}", "{1}", "cri-o", "{P}"),
        // podman.
        ("/machine.slice/libpod-{1}.scope", "{1}", "podman", ""),
        ("/machine.slice/libpod-{1}.scope/container", "{1}", "podman", ""),
        ("/libpod_parent/libpod-{1}", "{1}", "podman", ""),
        ("/libpod_parent/{1}", "{1}", "podman", ""),
        ("/machine.slice/machine-libpod_pod_{2}.slice/libpod-{1}.scope", "{1}", "podman", ""),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{1}.scope", "{1}", "podman", ""),
        ("/system.slice/web.service/libpod-payload-{1}", "{1}", "podman", ""),
        // Kubernetes, cgroupfs driver: the path does not tell the runtime.
        ("/kubepods/pod{P}/{1}", "{1}", "", "{P}"),
        ("/kubepods/burstable/pod{P}/{1}", "{1}", "", "{P}"),
        ("/kubelet/kubepods/besteffort/pod{P}/{1}", "{1}", "", "{P}"),
        ("/kubepods/burstable/pod8dbc50a15ce14aab1bd5f9b47ac2c8ea/{1}", "{1}", "", "8dbc50a15ce14aab1bd5f9b47ac2c8ea"),
        // Kubernetes, systemd driver.
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{p}.slice/cri-containerd-{1}.scope",
            "{1}",
            "containerd",
            "{P}",
        ),
        ("/kubepods.slice/kubepods-pod{p}.slice/docker-{1}.scope", "{1}", "docker", "{P}"),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{p}.slice/cri-containerd-{1}.scope",
            "{1}",
            "containerd",
            "{P}",
        ),
        // Containers in containers: the innermost one, in the pod nearest above it.
        ("/docker/{1}/docker/{2}", "{2}", "docker", ""),
        ("/docker/{1}/kubelet/kubepods/burstable/pod{P}/{2}", "{2}", "", "{P}"),
        ("/kubepods/burstable/pod{P}/{1}/docker/{2}", "{2}", "docker", "{P}"),
        ("/lxc.payload.builder/system.slice/docker-{1}.scope", "{1}", "docker", ""),
        // LXC, LXD, Incus, Proxmox.
        ("/lxc/web-1", "web-1", "lxc", ""),
        ("/lxc/101/ns/system.slice/postfix.service", "101", "lxc", ""),
        ("/lxc.payload.web-1", "web-1", "lxc", ""),
        ("/lxc.payload/web-1/init.scope", "web-1", "lxc", ""),
        // systemd-nspawn and libvirt's containers.
        ("/machine.slice/machine-debian.scope", "debian", "systemd-nspawn", ""),
        (
            r"/machine.slice/machine-debian\x2d13.scope/payload/system.slice/ssh.service",
            "debian-13",
            "systemd-nspawn",
            "",
        ),
        ("/machine.slice/systemd-nspawn@build.service/payload", "build", "systemd-nspawn", ""),
        (r"/machine.slice/machine-lxc\x2d4242\x2dweb.scope", "4242-web", "libvirt-lxc", ""),
        // BuildKit.
        ("/docker/buildkit/x7v1k2l0m5n8p3q6r9s4t1u0w", "x7v1k2l0m5n8p3q6r9s4t1u0w", "buildkit", ""),
        ("/buildkit/x7v1k2l0m5n8p3q6r9s4t1u0w", "x7v1k2l0m5n8p3q6r9s4t1u0w", "buildkit", ""),
    ] {
        let optional = |text: &str| (!text.is_empty()).then(|| fill(text));
        let expected = Container { id: fill(id), runtime: optional(runtime), pod_uid: optional(pod) };
        assert_eq!(container(&fill(path)), Some(expected), "{path}");
    }
}

#[test]
fn what_only_looks_like_a_container_is_none() {
    for path in [
        "",
        "/",
        "/init.scope",
        "/system.slice/docker.service",
        "/system.slice/docker.socket",
        "/system.slice/containerd.service",
        "/system.slice/crio.service",
        "/docker",
        "/docker/buildkit",
        "/docker/7be92808767a",
        "/system.slice/docker-7be92808767a.scope",
        "/system.slice/docker-desktop.scope",
        // The process that watches a container from outside.
        "/machine.slice/libpod-conmon-{1}.scope",
        "/system.slice/crio-conmon-{1}.scope",
        "/lxc.monitor.web-1",
        "/lxc.monitor/web-1",
        "/lxc",
        "/machine.slice/machine-debian.scope/supervisor",
        "/machine.slice/systemd-nspawn@build.service/supervisor",
        "/user.slice/user-1000.slice/user@1000.service/user.slice/podman-2411.scope",
        // A pod without a container of its own.
        "/kubepods/burstable/pod{P}",
        "/kubepods.slice/kubepods-pod{p}.slice",
        // Virtual machines.
        r"/machine.slice/machine-qemu\x2d1\x2dwindows.scope/libvirt/emulator",
        "/machine.slice/machine-libpod_pod_{1}.slice",
        // Not lower-case hex, or not 64 of it.
        "/docker/7BE92808767A667F35C8505CBF40D14E931EF6DB5B0210329CF193B15BA9D605",
        "/docker/{1}0",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/snap.firefox.firefox-{P}.scope",
    ] {
        assert_eq!(container(&fill(path)), None, "{path}");
    }
}

#[test]
fn a_pods_uid_is_well_formed_or_absent() {
    for (component, expected) in [
        (format!("pod{POD}"), Some(POD)),
        (format!("kubepods-pod{}.slice", POD.replace('-', "_")), Some(POD)),
        (format!("podman-pod{POD}.slice"), None),
        ("pod2b801b7a-52664386-864e-45ed-71136371".to_owned(), None),
        ("podinfo".to_owned(), None),
        ("pod".to_owned(), None),
    ] {
        assert_eq!(pod_uid(&component).as_deref(), expected, "{component}");
    }
}

proptest! {
    #[test]
    fn any_path_is_read(path in any::<String>()) {
        if let Some(container) = container(&path) {
            prop_assert!(!container.id.is_empty());
        }
    }

    #[test]
    fn pieces_in_any_order_are_read(pieces in proptest::collection::vec(prop_oneof![
        Just("docker"), Just("buildkit"), Just("lxc"), Just("machine-"), Just("-pod"), Just(".slice"), Just(".scope"),
        Just("/"), Just(":"), Just(FIRST), Just(POD), Just("kubepods"), Just("pod"), Just("\\x2d"), Just("é"),
    ], 0..12)) {
        if let Some(container) = container(&pieces.concat()) {
            prop_assert!(!container.id.is_empty() && !container.id.contains('/'));
        }
    }
}
