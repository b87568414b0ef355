//! Generates the messages from proto/ without a system protoc.

use std::{env, error::Error, fs, path::Path};

use protox::prost::Message;

/// The files that make up the contracts, relative to proto/.
const FILES: [&str; 5] = [
    "trueup/options/v1/options.proto",
    "trueup/coupon/v1/commands.proto",
    "trueup/coupon/v1/outcomes.proto",
    "trueup/order/v1/orders.proto",
    "trueup/payment/v1/outcomes.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    for file in FILES {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    // The image keeps custom options, which the plain descriptor set of prost would drop.
    let out = Path::new(&env::var("OUT_DIR")?).join("contracts.binpb");
    fs::write(out, compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();
    debug_assert!(descriptors.encoded_len() > 0, "an empty image would generate nothing");
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
