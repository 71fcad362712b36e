//! The kernels as machine code: one fatbin for each file, rebuilt when the file, a header, a flag or the compiler changes.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::{FOLDER, Module, Result, files, write};

/// Machine code for these; PTX for the first, which later GPUs compile when the kernels are loaded.
const DEFAULT_ARCHITECTURES: &str = "80,86,89,90a";

/// Variables that say where nvcc is or what it makes.
const VARIABLES: [&str; 8] = [
    "NVCC",
    "CUDA_HOME",
    "CUDA_PATH",
    "PATH",
    "TOEDIT_CUDA_PYTHON",
    "TOEDIT_CUDA_ARCHS",
    "TOEDIT_CUDA_STRICT",
    CACHE,
];

/// Names a folder in which fatbins are kept, for builds of several profiles and features to share.
const CACHE: &str = "TOEDIT_CUDA_CACHE";

/// The oldest release whose fatbins are compressed for size.
const OLDEST: (u32, u32) = (12, 8);

struct Compiler {
    nvcc: PathBuf,
    flags: Vec<String>,
    /// Of the compiler's version, the flags and every header.
    hash: u64,
}

/// Compiles every module; returns the fatbins in the same order.
pub fn compile(modules: &[Module], out: &Path) -> Result<Vec<PathBuf>> {
    VARIABLES.iter().for_each(|name| println!("cargo::rerun-if-env-changed={name}"));
    let compiler = Compiler::find()?;
    let cache = env::var_os(CACHE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = cache.as_deref().unwrap_or(out);
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs() {
            scope.spawn(|| {
                while let Some((index, module)) = take(&next, modules) {
                    let result = compiler.fatbin(module, folder);
                    results.lock().expect("no thread panics").push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panics");
    results.sort_by_key(|(index, _)| *index);
    let built = results.into_iter().map(|(_, result)| result).collect::<Result<Vec<_>>>()?;
    let (fatbins, resources): (Vec<_>, Vec<_>) = built.into_iter().unzip();
    write(&out.join("resources.txt"), &resources.concat())?;
    Ok(fatbins)
}

fn jobs() -> usize {
    env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1)
}

fn take<'a>(next: &AtomicUsize, modules: &'a [Module]) -> Option<(usize, &'a Module)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, modules.get(index)?))
}

impl Compiler {
    fn find() -> Result<Self> {
        let nvcc = find()?;
        let version = run(Command::new(&nvcc).arg("--version"))?;
        let (major, minor) = release(&version.stdout)?;
        if (major, minor) < OLDEST {
            let (need, point) = OLDEST;
            return Err(format!(
                "{} is of CUDA {major}.{minor}: feature `cuda` needs {need}.{point} or later",
                nvcc.display()
            ));
        }
        // Drivers of that version and later ones run what it makes.
        println!("cargo::rustc-env=TOEDIT_CUDA_MAJOR={major}");
        let flags = flags()?;
        let mut hasher = DefaultHasher::new();
        (&version.stdout, &flags).hash(&mut hasher);
        for path in files(Path::new(FOLDER))? {
            if path.extension().is_some_and(|ending| ending == "cuh") {
                bytes(&path)?.hash(&mut hasher);
            }
        }
        Ok(Self { nvcc, flags, hash: hasher.finish() })
    }

    /// The module's fatbin, and what ptxas says of the resources that its kernels take.
    fn fatbin(&self, module: &Module, folder: &Path) -> Result<(PathBuf, String)> {
        let mut hasher = DefaultHasher::new();
        (self.hash, bytes(&module.path)?).hash(&mut hasher);
        let fatbin = folder.join(format!("{}-{:016x}.fatbin", module.name, hasher.finish()));
        let resources = fatbin.with_extension("txt");
        if !fatbin.is_file() || !resources.is_file() {
            let unfinished = fatbin.with_extension(format!("{}.part", std::process::id()));
            let mut command = Command::new(&self.nvcc);
            command.args(&self.flags).arg("-o").arg(&unfinished).arg(&module.path);
            let output = run(&mut command)?;
            write(&resources, &String::from_utf8_lossy(&output.stderr))?;
            fs::rename(&unfinished, &fatbin).map_err(|e| format!("{}: {e}", fatbin.display()))?;
        }
        Ok((fatbin, fs::read_to_string(&resources).map_err(|e| format!("{}: {e}", resources.display()))?))
    }
}

/// The release of CUDA that the compiler is of.
fn release(version: &[u8]) -> Result<(u32, u32)> {
    let version = String::from_utf8_lossy(version);
    let release = version.split("release ").nth(1).and_then(|rest| {
        let (major, rest) = rest.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    release.ok_or_else(|| format!("nvcc --version: no release in `{}`", version.trim()))
}

/// Where nvcc is. A variable that names it and is wrong is an error: another compiler would be a surprise.
fn find() -> Result<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path =
        |name: &Path| env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    if let Some(nvcc) = variable("NVCC") {
        let found = if nvcc.components().count() == 1 { in_path(&nvcc) } else { Some(nvcc.clone()) };
        let found = found.filter(|path| path.is_file());
        return found.ok_or_else(|| format!("$NVCC: {}: there is no such file", nvcc.display()));
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    let installed = homes.map(|home| home.join("bin/nvcc")).find(|path| path.is_file());
    let installed = installed.or_else(|| in_path(Path::new("nvcc")));
    let standard = Path::new("/usr/local/cuda/bin/nvcc");
    if let Some(nvcc) = installed.or_else(|| standard.is_file().then(|| standard.to_owned())) {
        return Ok(nvcc);
    }
    let python = variable("TOEDIT_CUDA_PYTHON").ok_or(
        "feature `cuda` needs nvcc 12.8 or later, which was not found in $NVCC, $CUDA_HOME/bin, $CUDA_PATH/bin, $PATH, \
         /usr/local/cuda/bin or the Python environment of $TOEDIT_CUDA_PYTHON: install the CUDA toolkit, or \
         `pip install nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-crt nvidia-cuda-runtime nvidia-cuda-cccl`, or build \
         without the feature",
    )?;
    let nvcc = in_python(&python)?;
    if nvcc.is_file() {
        Ok(nvcc)
    } else {
        Err(format!("$TOEDIT_CUDA_PYTHON: there is no {}", nvcc.display()))
    }
}

/// nvcc as NVIDIA's Python packages install it.
fn in_python(python: &Path) -> Result<PathBuf> {
    let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let output =
        run(Command::new(python).args(["-c", script])).map_err(|e| format!("$TOEDIT_CUDA_PYTHON: {e}"))?;
    let packages = String::from_utf8_lossy(&output.stdout);
    Ok(Path::new(packages.trim()).join("nvidia/cu13/bin/nvcc"))
}

fn flags() -> Result<Vec<String>> {
    let list = env::var("TOEDIT_CUDA_ARCHS").unwrap_or_else(|_| DEFAULT_ARCHITECTURES.to_owned());
    let architectures: Vec<_> = list.split(',').map(str::trim).collect();
    let known = |name: &&str| {
        name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric())
    };
    if let Some(other) = architectures.iter().find(|name| !known(name)) {
        return Err(format!("TOEDIT_CUDA_ARCHS: `{other}`: expected a list such as {DEFAULT_ARCHITECTURES}"));
    }
    let mut flags: Vec<_> =
        ["-fatbin", "-std=c++17", "-O3", "--compress-mode=size", "-Xptxas=-v"].map(str::to_owned).into();
    flags.push(format!("-I{FOLDER}"));
    flags.extend(architectures.iter().map(|name| format!("-gencode=arch=compute_{name},code=sm_{name}")));
    flags.push(format!(
        "-gencode=arch=compute_{0},code=compute_{0}",
        architectures[0].trim_end_matches(char::is_alphabetic)
    ));
    if env::var_os("TOEDIT_CUDA_STRICT").is_some() {
        flags.extend(["-Xptxas=-warn-spills,-warn-lmem-usage", "-Werror=all-warnings"].map(str::to_owned));
    }
    Ok(flags)
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Runs a command to its end; what it says where it fails.
fn run(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<_> =
        said.lines().filter(|line| !line.contains("ptxas info") && !line.starts_with(' ')).collect();
    Err(format!("{name} failed with {}: {}", output.status, errors.join("; ")))
}
