//! `cargo xtask deploy-check`: the units by systemd's own checker, the manifests by the schemas Kubernetes publishes.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::process;
use crate::python::Package;
use crate::ui::{self, Summary};
use crate::workspace::Workspace;

/// The package that carries the published schemas.
const VALIDATOR: Package = Package { name: "kubernetes-validate", version: "1.37.0", program: "kubernetes-validate" };

/// The oldest and the newest Kubernetes the manifests are for: 1.30 brought `appArmorProfile`.
const KUBERNETES_VERSIONS: [&str; 2] = ["1.30", "1.37"];

/// Exposure that `systemd-analyze security` may find at most, in tenths: 10.0 is an unprotected service.
const EXPOSURE_MAX: u32 = 30;

/// The units, and what each has to say.
const UNITS: [(&str, &str); 3] = [
    ("egresswatch.service", "ExecStart=/usr/local/bin/egresswatch run\n"),
    ("egresswatch-data.service", "ExecStart=/usr/local/bin/egresswatch data update\n"),
    ("egresswatch-data.timer", "OnCalendar=daily\n"),
];

/// What those add to the unit who need it.
const DROP_INS: [&str; 2] = ["network-outputs.conf", "older-kernels.conf"];

/// Runs the command.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut summary = Summary::default();
    summary.step("the units are good", || units(workspace));
    summary.step("the manifests are valid", || manifests(workspace));
    summary.finish("cargo xtask deploy-check")
}

/// Lets systemd read the units. The program they start need not be installed here, so copies start `true` for it, to reload
/// as well.
fn units(workspace: &Workspace) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let mut copies = Vec::new();
    for (name, start) in UNITS {
        let source = workspace.path(&format!("deploy/systemd/{name}"));
        let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
        ensure!(text.contains(start), "{} does not have `{start}`", source.display());
        let text = text.replace("=/usr/local/bin/egresswatch ", "=/bin/true ");
        let text = text.replace("Documentation=man:egresswatch(1) file:", "Documentation=file:");
        let text = text.replace("Documentation=man:egresswatch-data-update(1) file:", "Documentation=file:");
        let copy = folder.path().join(name);
        fs::write(&copy, text).with_context(|| format!("cannot write {}", copy.display()))?;
        copies.push(copy);
    }
    // The drop-ins are read with the service.
    let drop_ins = folder.path().join("egresswatch.service.d");
    fs::create_dir(&drop_ins).with_context(|| format!("cannot create {}", drop_ins.display()))?;
    for name in DROP_INS {
        let drop_in = workspace.path("deploy/systemd").join(name);
        fs::copy(&drop_in, drop_ins.join(name)).with_context(|| format!("cannot read {}", drop_in.display()))?;
    }
    let verdict = process::output(process::command("systemd-analyze").args(["verify", "--man=no"]).args(&copies))?;
    ensure!(verdict.trim().is_empty(), "systemd-analyze says: {verdict}");
    // What old kernels need is open nowhere else, and not judged.
    let older = drop_ins.join("older-kernels.conf");
    fs::remove_file(&older).with_context(|| format!("cannot remove {}", older.display()))?;
    for copy in copies.iter().filter(|copy| copy.extension().is_some_and(|extension| extension == "service")) {
        let mut security = process::command("systemd-analyze");
        security.args(["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE_MAX}")]).arg(copy);
        let report = process::output(&mut security)?;
        ui::say(report.lines().last().unwrap_or_default());
    }
    Ok(())
}

fn manifests(workspace: &Workspace) -> Result<()> {
    let validator = VALIDATOR.ensure(workspace)?;
    for version in KUBERNETES_VERSIONS {
        let mut command = process::command(&validator);
        command.current_dir(workspace.path("deploy/kubernetes")).args(["--strict", "--kubernetes-version", version]);
        process::run(command.args(["namespace.yaml", "configmap.yaml", "daemonset.yaml"]))?;
    }
    Ok(())
}
