//! Writes everything that is made from the code: the references, the default configuration where it is shipped, man
//! pages and completions. With `--check` it changes nothing and fails if a file is not what the code says.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap_complete::Shell;
use egresswatch::{alert, cli::generate, config, coverage, metrics, policy};

fn main() -> ExitCode {
    let is_check = std::env::args().nth(1).is_some_and(|argument| argument == "--check");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match documents().and_then(|documents| if is_check { stale(&root, &documents) } else { write(&root, &documents) }) {
        Ok(stale) if stale.is_empty() => ExitCode::SUCCESS,
        Ok(stale) => {
            let names: Vec<_> = stale.iter().map(|path| path.display().to_string()).collect();
            eprintln!("not what the code says: {}\nrun `cargo xtask docs` and commit the result", names.join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cannot make the documents: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A path below the repository's root, and what belongs there.
type Document = (PathBuf, String);

fn documents() -> io::Result<Vec<Document>> {
    let mut documents: Vec<Document> = vec![
        ("docs/cli.md".into(), generate::reference_markdown()),
        ("docs/config.md".into(), config::reference_markdown()),
        ("docs/config.schema.json".into(), serde_json::to_string_pretty(&config::json_schema())? + "\n"),
        ("docs/coverage.md".into(), coverage::markdown()),
        ("docs/rules.md".into(), policy::rules::markdown()),
        ("docs/events.md".into(), alert::schema::events_markdown()),
        ("docs/event-schema.json".into(), alert::schema::schema_json()),
        ("docs/metrics.md".into(), metrics::reference_markdown()),
        ("deploy/config.toml".into(), config::default_toml()),
        ("deploy/kubernetes/configmap.yaml".into(), config_map()),
    ];
    for (name, text) in generate::man_pages()? {
        documents.push((Path::new("docs/man").join(name), text));
    }
    for (shell, name) in
        [(Shell::Bash, "egresswatch.bash"), (Shell::Zsh, "_egresswatch"), (Shell::Fish, "egresswatch.fish")]
    {
        documents.push((Path::new("docs/completions").join(name), generate::completion_script(shell)));
    }
    Ok(documents)
}

/// The default configuration for a pod, where the host's cgroup hierarchy is mounted at a place of its own.
fn config_map() -> String {
    let mut text = String::from(
        "# Made by `cargo xtask docs` from the default configuration; only kernel.cgroup differs: the pod sees the\n\
         # host's hierarchy where the DaemonSet mounts it.\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: egresswatch\n  namespace: egresswatch\ndata:\n  config.toml: |\n",
    );
    for line in config::default_toml().lines() {
        let line = if line.starts_with("# cgroup = ") { "cgroup = \"/host/sys/fs/cgroup\"" } else { line };
        let _ = writeln!(text, "{}", format!("    {line}").trim_end());
    }
    text
}

/// Writes what differs, so that nothing is rebuilt without need.
fn write(root: &Path, documents: &[Document]) -> io::Result<Vec<PathBuf>> {
    for path in stale(root, documents)? {
        let Some((_, text)) = documents.iter().find(|(candidate, _)| *candidate == path) else { continue };
        let file = root.join(&path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, text)?;
    }
    Ok(Vec::new())
}

/// The documents that are not what the code says.
fn stale(root: &Path, documents: &[Document]) -> io::Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for (path, text) in documents {
        match fs::read_to_string(root.join(path)) {
            Ok(found) if found == *text => {}
            Ok(_) => stale.push(path.clone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => stale.push(path.clone()),
            Err(error) => return Err(error),
        }
    }
    Ok(stale)
}
