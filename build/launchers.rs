//! Generates Rust from the kernels' signatures: a wrong name, order, count or type does not compile.
//!
//! Kernels that come in two types, `name_f32` and `name_bf16`, become a method of the trait `Kernels`, which both types
//! implement; others become functions.

use std::fmt::Write;
use std::path::PathBuf;

use crate::Module;
use crate::signatures::{Kernel, Parameter, Type};

/// A kernel and the place of its file among the modules.
type Placed<'a> = (usize, &'a Kernel);

/// The text of `kernels.rs`.
pub fn generate(modules: &[Module], fatbins: &[PathBuf], emulator: bool) -> String {
    let placed = || modules.iter().enumerate().flat_map(|(i, m)| m.kernels.iter().map(move |k| (i, k)));
    let twin = |kernel: &Kernel| {
        let name = format!("{}_bf16", kernel.name.strip_suffix("_f32")?);
        placed().find(|(_, other)| other.name == name).map(|(_, twin)| twin)
    };
    let mut out = String::new();
    fatbin_table(&mut out, fatbins);
    if emulator {
        entries(&mut out, placed());
    }
    placed().for_each(|(module, kernel)| descriptor(&mut out, module, kernel, emulator));
    let pairs: Vec<_> = placed().filter_map(|(_, kernel)| Some((kernel, twin(kernel)?))).collect();
    kernel_trait(&mut out, &pairs);
    let paired = |kernel: &Kernel| pairs.iter().any(|(a, b)| a.name == kernel.name || b.name == kernel.name);
    for (_, kernel) in placed().filter(|(_, kernel)| !paired(kernel)) {
        let parameters = parameters(kernel, |p| rust(p.kind).to_owned());
        let _ = writeln!(
            out,
            "/// Launches `{0}`.\n{ALLOW}pub fn {0}({parameters}) -> Result<()> {{",
            kernel.name
        );
        let _ = writeln!(out, "{}}}", body(kernel));
    }
    out
}

const ALLOW: &str = "#[allow(clippy::too_many_arguments, missing_docs)]\n";

fn fatbin_table(out: &mut String, fatbins: &[PathBuf]) {
    out.push_str("/// The compiled kernel files, in the order of [`Kernel::module`].\n");
    out.push_str("#[cfg(feature = \"cuda\")]\npub static FATBINS: &[&[u8]] = &[\n");
    for path in fatbins {
        let _ = writeln!(out, "    include_bytes!({:?}),", path.display().to_string());
    }
    out.push_str("];\n");
}

fn entries<'a>(out: &mut String, kernels: impl Iterator<Item = Placed<'a>>) {
    out.push_str("unsafe extern \"C\" {\n");
    for (_, Kernel { name, .. }) in kernels {
        let _ = writeln!(out, "    fn toedit_entry_{name}(arguments: *mut *mut c_void);");
    }
    out.push_str("}\n");
}

fn descriptor(out: &mut String, module: usize, kernel: &Kernel, emulator: bool) {
    let name = &kernel.name;
    let entry = if emulator { format!(", entry: toedit_entry_{name}") } else { String::new() };
    let upper = name.to_uppercase();
    let _ =
        writeln!(out, "static {upper}: Kernel = Kernel {{ name: c\"{name}\", module: {module}{entry} }};");
}

/// One method per pair of kernels, and its two implementations.
fn kernel_trait(out: &mut String, pairs: &[(&Kernel, &Kernel)]) {
    let signature = |a: &Kernel, b: &Kernel| {
        let of = |p: &Parameter| {
            let twin = b.parameters.iter().find(|other| other.name == p.name);
            let same = twin.is_some_and(|twin| twin.kind == p.kind);
            if same { rust(p.kind).to_owned() } else { "Self".to_owned() }
        };
        let name = a.name.trim_end_matches("_f32");
        format!("fn {name}({}) -> Result<()>", parameters(a, of))
    };
    out.push_str("/// The kernels that come in both types.\npub trait Kernels: Element + sealed::Sealed {\n");
    for (a, b) in pairs {
        let _ = writeln!(out, "{ALLOW}    {};", signature(a, b));
    }
    out.push_str("}\n");
    for (kind, index) in [("f32", 0), ("bf16", 1)] {
        let _ = writeln!(out, "impl Kernels for {kind} {{");
        for (a, b) in pairs {
            let _ = writeln!(out, "    {} {{\n{}}}", signature(a, b), body([*a, *b][index]));
        }
        out.push_str("}\n");
    }
}

fn parameters(kernel: &Kernel, kind: impl Fn(&Parameter) -> String) -> String {
    let mut text = "queue: &Queue, grid: Grid".to_owned();
    for parameter in &kernel.parameters {
        let kind = match (parameter.pointer, parameter.kind) {
            (true, _) => format!("View<'_, {}>", kind(parameter)),
            // Counts: checked on the way.
            (false, Type::Int) => "usize".to_owned(),
            (false, _) => kind(parameter),
        };
        let _ = write!(text, ", {}: {kind}", parameter.name);
    }
    text
}

fn body(kernel: &Kernel) -> String {
    let mut text = String::new();
    for parameter in &kernel.parameters {
        let name = &parameter.name;
        if parameter.pointer {
            let _ = writeln!(text, "let {name} = queue.address({name});");
        } else if parameter.kind == Type::Int {
            let _ = writeln!(text, "let {name} = int({name})?;");
        }
    }
    let pointers: Vec<_> = kernel.parameters.iter().map(|p| format!("erase(&{})", p.name)).collect();
    let list = pointers.join(", ");
    let _ = writeln!(text, "queue.launch(&{}, grid, &mut [{list}])", kernel.name.to_uppercase());
    text
}

fn rust(kind: Type) -> &'static str {
    match kind {
        Type::Float => "f32",
        Type::Bf16 => "bf16",
        Type::Double => "f64",
        Type::Int => "i32",
        Type::Uint8 => "u8",
        Type::Uint32 => "u32",
        Type::Uint64 => "u64",
    }
}
