//! A program in a process: what an exec puts there, and what children share until they exec.

use std::sync::Arc;

use super::{Executable, PathQuality, proc::Snapshot};
use crate::event::{Exec, FileId};

/// What one exec put into a process. Children share it, so a fork copies nothing.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) executable: Option<Executable>,
    /// The executable's file is numbered as the kernel does, not as `stat(2)`, see [`Snapshot::runs`].
    kernel_numbered: bool,
    comm: String,
    pub(super) arguments: Vec<String>,
    pub(super) arguments_truncated: bool,
}

impl Image {
    /// What the kernel saw at an exec.
    pub(super) fn from_exec(exec: &Exec) -> Self {
        let executable = exec.path.as_ref().map(|path| Executable {
            path: path.clone(),
            quality: PathQuality::Exec,
            unlinked: exec.unlinked,
            truncated: exec.path_truncated,
            file: exec.identity.executable,
        });
        Self {
            executable,
            kernel_numbered: true,
            comm: exec.identity.comm.clone(),
            arguments: exec.arguments.clone(),
            arguments_truncated: exec.arguments_truncated,
        }
    }

    /// What `/proc` shows of a process, whose file the kernel may already have numbered.
    pub(super) fn from_snapshot(snapshot: Snapshot, file: Option<FileId>) -> Self {
        let mut executable = snapshot.executable;
        if let (Some(executable), Some(_)) = (&mut executable, file) {
            executable.file = file;
        }
        Self {
            executable,
            kernel_numbered: file.is_some(),
            comm: snapshot.stat.comm,
            arguments: snapshot.arguments,
            arguments_truncated: snapshot.arguments_truncated,
        }
    }

    /// Whether this is the program of a process that runs `file`, as the kernel numbers it. An image that was lost
    /// sight of at an exec is not. Without a number there is nothing that speaks against it.
    pub(super) fn runs(&self, file: Option<FileId>) -> bool {
        match (self.executable.as_ref(), file) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(executable), Some(file)) => {
                executable.file.is_some_and(|own| own == file || (!self.kernel_numbered && own.inode == file.inode))
            }
        }
    }

    /// File name of the executable, or the task name.
    pub(super) fn name(&self) -> String {
        self.executable.as_ref().and_then(file_name).unwrap_or_else(|| self.comm.clone())
    }
}

/// The last component of an executable's path.
pub(super) fn file_name(executable: &Executable) -> Option<String> {
    Some(executable.path.file_name()?.to_string_lossy().into_owned())
}

/// A process's hold on an image.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) image: Arc<Image>,
    /// The image came with the fork.
    pub(super) inherited: bool,
}

impl Running {
    pub(super) fn own(image: Image) -> Self {
        Self { image: Arc::new(image), inherited: false }
    }

    /// The same image in a child.
    pub(super) fn inherit(&self) -> Self {
        Self { image: Arc::clone(&self.image), inherited: true }
    }

    /// The executable, with the quality that it has for this process.
    pub(super) fn executable(&self) -> Option<Executable> {
        let mut executable = self.image.executable.clone()?;
        if self.inherited {
            executable.quality = PathQuality::Inherited;
        }
        Some(executable)
    }
}
