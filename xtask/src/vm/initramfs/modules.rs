//! Kernel modules by name, with those they depend on, in the order to load them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process;

/// One module, uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Its name, without suffix.
    pub(super) name: String,
    /// The ELF file.
    pub(super) content: Vec<u8>,
}

/// Finds the modules and their dependencies; those built into the kernel have no file and are left out.
pub(super) fn with_dependencies(folder: &Path, names: &[&str]) -> Result<Vec<Module>> {
    let mut files = Vec::new();
    collect(&folder.join("kernel"), &mut files)?;
    let mut found = Vec::new();
    for name in names {
        add(name, &files, &mut found)?;
    }
    Ok(found)
}

fn add(name: &str, files: &[PathBuf], found: &mut Vec<Module>) -> Result<()> {
    let Some(path) = files.iter().find(|path| module_name(path).is_some_and(|candidate| candidate == name)) else {
        return Ok(());
    };
    if found.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let content = decompressed(path)?;
    for dependency in dependencies(&content) {
        add(&dependency, files, found)?;
    }
    found.push(Module { name: name.to_owned(), content });
    Ok(())
}

/// `veth` of `…/veth.ko.xz`; dashes and underscores are the same in module names.
fn module_name(path: &Path) -> Option<String> {
    let (name, _) = path.file_name()?.to_str()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

/// The module's own list of what it depends on: `depends=a,b` among the strings of its `.modinfo` section.
fn dependencies(content: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = content.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value =
        content.get(start + KEY.len()..).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(OsStr::to_str) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut command = process::command(tool);
    let output = command.arg("-dc").arg(path).output().with_context(|| format!("cannot start {tool}"))?;
    anyhow::ensure!(output.status.success(), "{tool} cannot unpack {}", path.display());
    Ok(output.stdout)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_once_and_built_in_modules_are_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let drivers = folder.path().join("kernel/drivers/net");
        fs::create_dir_all(&drivers).expect("folders");
        let module = |name: &str, depends: &str| {
            let content = format!("\x7fELF\0license=GPL\0depends={depends}\0name={name}\0");
            fs::write(drivers.join(format!("{name}.ko")), content).expect("a module");
        };
        module("virtio-net", "net_failover,failover");
        module("net_failover", "failover");
        module("failover", "");
        let found = with_dependencies(folder.path(), &["virtio_net", "veth", "failover"]).expect("modules");
        let names: Vec<_> = found.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio_net"]);
    }
}
