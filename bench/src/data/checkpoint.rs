//! A safetensors checkpoint with the shapes of a language model, and the checkpoint after it.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use anyhow::{Result, ensure};

use super::values::Values;
use super::{Made, write};
use crate::rng::{Rng, mix};

/// Smallest checkpoint that still has layers.
const BYTES_MIN: u64 = 1 << 20;
/// The inserted adapter: an odd number of bytes, so that all after it moves by an odd distance.
const ADAPTER_SHAPE: [u64; 2] = [3, 33_337];

/// How large a checkpoint is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Content in bytes, about.
    pub(super) bytes: u64,
    /// Safetensors files.
    pub(super) files: u64,
    /// Share of fp32, in one file of its own.
    pub(super) fp32_percent: u64,
}

/// Makes the checkpoint of `seed`, or the one after it.
pub(super) fn make(out: &Path, size: Size, seed: u64, step: u64, next: bool) -> Result<Made> {
    ensure!(size.bytes >= BYTES_MIN, "a checkpoint has at least {BYTES_MIN} bytes");
    let fp32_files = u64::from(size.fp32_percent > 0);
    ensure!(size.files > fp32_files, "a checkpoint has at least {} files", fp32_files + 1);
    let mut files = plan(size);
    if next {
        advance(&mut files, seed);
    }
    let values = Values::new();
    write::parallel(&files, |file| file.write(out, step, seed, &values))?;
    let index = index_json(&files);
    write::bytes(&out.join("model.safetensors.index.json"), step, index.as_bytes())?;
    // The configuration stays as it is from one checkpoint to the next, its time included.
    let config_step = write::first_step(seed);
    let config = "{\"architectures\":[\"ExampleForCausalLM\"],\"torch_dtype\":\"bfloat16\"}\n";
    write::bytes(&out.join("config.json"), config_step, config.as_bytes())?;

    let side = (index.len() + config.len()) as u64;
    let bytes = files.iter().map(File::bytes).sum::<u64>() + side;
    let new_bytes = if next {
        files.iter().map(File::new_bytes).sum::<u64>() + index.len() as u64
    } else {
        bytes
    };
    Ok(Made { files: files.len() as u64 + 2, bytes, new_bytes })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dtype {
    Bf16,
    F32,
    /// One byte wide, random: adapters that were quantised.
    F8,
}

impl Dtype {
    fn width(self) -> u64 {
        match self {
            Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F8 => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::F32 => "F32",
            Self::F8 => "F8_E4M3",
        }
    }
}

#[derive(Debug)]
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    /// Its content is not that of the checkpoint before.
    new: bool,
}

impl Tensor {
    fn old(name: String, dtype: Dtype, shape: &[u64]) -> Self {
        Self { name, dtype, shape: shape.to_vec(), new: false }
    }

    fn bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * self.dtype.width()
    }

    fn write(&self, file: &mut std::fs::File, seed: u64, values: &Values) -> Result<()> {
        let mut rng = Rng::named(seed ^ if self.new { 0x6e65_7874 } else { 0 }, &self.name);
        let mut buffer = vec![0; write::BUFFER_BYTES];
        let mut left = self.bytes();
        while left > 0 {
            let piece = &mut buffer[..left.min(write::BUFFER_BYTES as u64) as usize];
            match self.dtype {
                Dtype::Bf16 => values.fill_bf16(&mut rng, piece),
                Dtype::F32 => values.fill_f32(&mut rng, piece),
                Dtype::F8 => rng.fill(piece),
            }
            file.write_all(piece)?;
            left -= piece.len() as u64;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct File {
    name: String,
    tensors: Vec<Tensor>,
    /// A tensor was inserted, so the header is not that of the checkpoint before.
    inserted: bool,
}

impl File {
    /// Length (8 bytes, little endian), then JSON, padded with spaces to a multiple of 8.
    fn header(&self) -> Vec<u8> {
        let mut json = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
        let mut at = 0;
        for tensor in &self.tensors {
            let (name, dtype, end) = (&tensor.name, tensor.dtype.name(), at + tensor.bytes());
            let shape = &tensor.shape;
            let _ = write!(
                json,
                ",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}}"
            );
            at = end;
        }
        json.push('}');
        while json.len() % 8 != 0 {
            json.push(' ');
        }
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.extend_from_slice(json.as_bytes());
        header
    }

    fn bytes(&self) -> u64 {
        self.header().len() as u64 + self.tensors.iter().map(Tensor::bytes).sum::<u64>()
    }

    fn new_bytes(&self) -> u64 {
        let header = if self.inserted { self.header().len() as u64 } else { 0 };
        header + self.tensors.iter().filter(|tensor| tensor.new).map(Tensor::bytes).sum::<u64>()
    }

    fn write(&self, out: &Path, step: u64, seed: u64, values: &Values) -> Result<()> {
        write::file(&out.join(&self.name), step, |file| {
            file.write_all(&self.header())?;
            self.tensors.iter().try_for_each(|tensor| tensor.write(file, seed, values))
        })
    }
}

/// Which tensors lie in which files.
fn plan(size: Size) -> Vec<File> {
    let fp32_bytes = size.bytes * size.fp32_percent / 100;
    let model = model(size.bytes - fp32_bytes);
    let optimizer = optimizer(&model, fp32_bytes);
    let model_files = size.files - u64::from(size.fp32_percent > 0);
    let total: u64 = model.iter().map(Tensor::bytes).sum();
    let mut files: Vec<File> = (1..=model_files)
        .map(|number| File {
            name: format!("model-{number:05}-of-{model_files:05}.safetensors"),
            tensors: Vec::new(),
            inserted: false,
        })
        .collect();
    let mut before = 0;
    for tensor in model {
        let index = before * model_files / total;
        before += tensor.bytes();
        files[index as usize].tensors.push(tensor);
    }
    if size.fp32_percent > 0 {
        let name = "optimizer.safetensors".to_owned();
        files.push(File { name, tensors: optimizer, inserted: false });
    }
    files
}

/// The tensors of a decoder with grouped attention, as wide as the size allows for eight layers.
fn model(bytes: u64) -> Vec<Tensor> {
    let hidden = (5..13).map(|bits| 1_u64 << bits).rfind(|h| 204 * h * h <= bytes).unwrap_or(32);
    let (kv, inner) = (hidden / 4, hidden * 11 / 4);
    let bf16 = |name: String, shape: &[u64]| Tensor::old(name, Dtype::Bf16, shape);
    let mut tensors = vec![bf16("model.embed_tokens.weight".into(), &[16 * hidden, hidden])];
    let mut used = tensors[0].bytes();
    for layer in 0.. {
        let shapes: [(&str, &[u64]); 12] = [
            ("input_layernorm.weight", &[hidden]),
            ("self_attn.q_proj.weight", &[hidden, hidden]),
            ("self_attn.q_proj.bias", &[hidden]),
            ("self_attn.k_proj.weight", &[kv, hidden]),
            ("self_attn.k_proj.bias", &[kv]),
            ("self_attn.v_proj.weight", &[kv, hidden]),
            ("self_attn.v_proj.bias", &[kv]),
            ("self_attn.o_proj.weight", &[hidden, hidden]),
            ("post_attention_layernorm.weight", &[hidden]),
            ("mlp.gate_proj.weight", &[inner, hidden]),
            ("mlp.up_proj.weight", &[inner, hidden]),
            ("mlp.down_proj.weight", &[hidden, inner]),
        ];
        let one: Vec<Tensor> = shapes
            .iter()
            .map(|(name, shape)| bf16(format!("model.layers.{layer}.{name}"), shape))
            .collect();
        let one_bytes: u64 = one.iter().map(Tensor::bytes).sum();
        if used + one_bytes > bytes {
            break;
        }
        used += one_bytes;
        tensors.extend(one);
    }
    tensors.push(bf16("model.norm.weight".into(), &[hidden]));
    let rows = bytes.saturating_sub(used + 2 * hidden) / (2 * hidden);
    tensors.push(bf16("lm_head.weight".into(), &[rows.max(1), hidden]));
    tensors
}

/// First moments of the model's tensors, in fp32, until the bytes are used up.
fn optimizer(model: &[Tensor], bytes: u64) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    let mut left = bytes;
    for tensor in model {
        let name = format!("exp_avg.{}", tensor.name);
        let whole = tensor.shape.iter().product::<u64>() * Dtype::F32.width();
        if whole > left {
            tensors.push(Tensor::old(name, Dtype::F32, &[left / Dtype::F32.width()]));
            break;
        }
        left -= whole;
        tensors.push(Tensor::old(name, Dtype::F32, &tensor.shape));
    }
    tensors
}

/// Makes of a checkpoint the one after it: a quarter of the tensors new, one adapter inserted.
fn advance(files: &mut [File], seed: u64) {
    let mut tensors: Vec<&mut Tensor> = files.iter_mut().flat_map(|f| &mut f.tensors).collect();
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|index| mix(seed ^ mix(*index as u64)));
    for index in &order[..order.len() / 4] {
        tensors[*index].new = true;
    }
    if let Some(file) = files.first_mut() {
        let name = "adapter.layers.0.lora_A.weight".to_owned();
        let adapter = Tensor { new: true, ..Tensor::old(name, Dtype::F8, &ADAPTER_SHAPE) };
        file.tensors.insert(1.min(file.tensors.len()), adapter);
        file.inserted = true;
    }
}

/// The index that tools read to find a tensor's file.
fn index_json(files: &[File]) -> String {
    let total: u64 = files.iter().flat_map(|file| &file.tensors).map(Tensor::bytes).sum();
    let mut json = format!("{{\"metadata\":{{\"total_size\":{total}}},\"weight_map\":{{");
    let mut comma = "";
    for file in files {
        for tensor in &file.tensors {
            let _ = write!(json, "{comma}\"{}\":\"{}\"", tensor.name, file.name);
            comma = ",";
        }
    }
    json.push_str("}}\n");
    json
}
