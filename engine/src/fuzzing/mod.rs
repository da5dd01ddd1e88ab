//! What every decoder promises, each as one function over bytes: for `fuzz/`, and for the tests.
//!
//! A function panics where its decoder breaks its word: it never panics itself, it takes no more
//! memory than its bound, what it accepts survives being encoded and decoded again, and a form of
//! which there is only one encodes to the same bytes. Decoders that are private to a module have
//! their function beside them, in a file `fuzz.rs`.
//!
//! The module is there in tests and behind the feature `fuzzing`, and in no other build.

mod chunks;
pub(crate) mod heap;
mod names;
mod options;
mod records;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use crate::{api, audit, border, encode, identity, index, policy, transport};

/// One decoder, or a few that belong together.
pub struct Target {
    /// Its name, and that of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Panics if the promise does not hold for these bytes; tells whether they were accepted.
    pub holds: fn(&[u8]) -> bool,
    /// Inputs that are accepted, to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Most bytes of memory that `holds` may take at a time, without the input's share.
    pub heap_bytes: usize,
}

impl Target {
    /// Bytes of memory for each byte of input, of every target. What is decoded is larger than its
    /// encoding, and is held a few times over to be compared.
    const HEAP_PER_BYTE: usize = 64;

    /// Tries the promise on some bytes, and that no more memory is taken than may be. Tells whether
    /// the bytes were accepted.
    pub fn try_on(&self, data: &[u8]) -> bool {
        let (accepted, peak) = heap::peak_of(|| (self.holds)(data));
        let bound = self.heap_bytes + Self::HEAP_PER_BYTE * data.len();
        assert!(
            peak <= bound,
            "{}: {peak} bytes of memory for {} of input, more than {bound}",
            self.name,
            data.len()
        );
        accepted
    }
}

macro_rules! targets {
    ($($(#[$doc:meta])* $target:ident: $name:literal, $holds:path, $seeds:path, $heap_kib:literal;)+) => {
        $(
            $(#[$doc])*
            pub static $target: Target = Target {
                name: $name,
                holds: $holds,
                seeds: $seeds,
                heap_bytes: $heap_kib << 10,
            };
        )+

        /// All of them.
        pub static TARGETS: &[&Target] = &[$(&$target),+];
    };
}

// Each with the memory that it may take beside the input's share, in KiB.
targets! {
    /// Paths below a root, and the texts of symbolic links.
    PATH: "path", names::path, names::path_seeds, 64;
    /// Digests, identifiers, names and words.
    TEXT: "text", names::text, names::text_seeds, 64;
    /// The content cutter and the fixed one.
    CONTENT_CUTTER: "content_cutter", chunks::content, chunks::content_seeds, 2048;
    /// The tensor cutter: headers of safetensors files.
    TENSOR_CUTTER: "tensor_cutter", chunks::tensor, chunks::tensor_seeds, 2048;
    /// Checksummed records.
    RECORD: "record", records::record, records::record_seeds, 64;
    /// Entries, as frames and records carry them.
    ENTRY: "entry", records::entry, records::entry_seeds, 64;
    /// Lists of chunks.
    CHUNK_LIST: "chunk_list", records::chunk_list, records::chunk_list_seeds, 64;
    /// Encoded content of data messages.
    ENCODING: "encoding", encode::fuzz::encoding, encode::fuzz::encoding_seeds, 2048;
    /// Content as copies of blocks and literals, and sums of blocks.
    NEAR: "near", encode::fuzz::near, encode::fuzz::near_seeds, 1024;
    /// Records of a manifest.
    MANIFEST_RECORD: "manifest_record", records::manifest, records::manifest_seeds, 64;
    /// Tables of cases for policies; each case is decided.
    CASES: "cases", policy::fuzz::cases, policy::fuzz::cases_seeds, 16384;
    /// Policies in Cedar; their parser takes what it takes.
    POLICY: "policy", policy::fuzz::text, policy::fuzz::text_seeds, 16384;
    /// Bundles of roles, as nodes take them from each other.
    ROLES: "roles", policy::fuzz::bundle, policy::fuzz::bundle_seeds, 64;
    /// Proposals to lower a class.
    PROPOSAL: "proposal", border::fuzz::proposal, border::fuzz::proposal_seeds, 64;
    /// Frames of the control channel.
    FRAME: "frame", wire::frame, wire::frame_seeds, 1024;
    /// Headers of data messages.
    DATA_HEADER: "data_header", wire::data_header, wire::data_header_seeds, 64;
    /// Records of a journal.
    JOURNAL_RECORD: "journal_record", records::journal, records::journal_seeds, 64;
    /// A whole journal, replayed and taken up; a record may claim 4 MiB before its end is seen.
    JOURNAL: "journal", records::journal_file, records::journal_file_seeds, 8192;
    /// Entries of the index: a chunk and where it is.
    INDEX_ENTRY: "index_entry", index::fuzz::entry, index::fuzz::entry_seeds, 64;
    /// Runs of the index, opened and asked.
    INDEX_RUN: "index_run", index::fuzz::run, index::fuzz::run_seeds, 64;
    /// Rows of the index: blocks of paths.
    INDEX_BLOCK: "index_block", index::fuzz::block, index::fuzz::block_seeds, 64;
    /// The first words on a QUIC connection.
    PREAMBLE: "preamble", transport::quic::fuzz::preamble, transport::quic::fuzz::preamble_seeds, 64;
    /// The control channel, cut into frames.
    FRAME_STREAM: "frame_stream", transport::quic::fuzz::frames, transport::quic::fuzz::frames_seeds, 2048;
    /// The lengths at the head of a data message.
    DATA_LENGTHS: "data_lengths", transport::quic::fuzz::lengths, transport::quic::fuzz::lengths_seeds, 64;
    /// What the ends of an RDMA session tell each other: grants, and notes about rails.
    RDMA_MESSAGE: "rdma_message", transport::rdma::fuzz::message, transport::rdma::fuzz::message_seeds, 256;
    /// Base64url.
    BASE64URL: "base64url", identity::fuzz::base64url, identity::fuzz::base64url_seeds, 64;
    /// Invitation tokens.
    TOKEN: "token", identity::fuzz::token, identity::fuzz::token_seeds, 64;
    /// SPIFFE ids and trust domains.
    SPIFFE: "spiffe", identity::fuzz::spiffe, identity::fuzz::spiffe_seeds, 64;
    /// A peer's certificate, read and judged.
    CERTIFICATE: "certificate", identity::fuzz::certificate, identity::fuzz::certificate_seeds, 256;
    /// Chains of certificates as PEM text, which an invited node is sent.
    CERTIFICATE_CHAIN: "certificate_chain", identity::fuzz::chain, identity::fuzz::chain_seeds, 256;
    /// Requests for a certificate.
    CERTIFICATE_REQUEST: "certificate_request", identity::fuzz::request, identity::fuzz::request_seeds, 256;
    /// The file of invitations.
    INVITES: "invites", identity::fuzz::invites, identity::fuzz::invites_seeds, 64;
    /// Records of an audit log.
    AUDIT_RECORD: "audit_record", audit::fuzz::record, audit::fuzz::record_seeds, 64;
    /// Frames of an audit log.
    AUDIT_FRAME: "audit_frame", audit::fuzz::frame, audit::fuzz::frame_seeds, 64;
    /// Heads of an audit log.
    AUDIT_HEAD: "audit_head", audit::fuzz::head, audit::fuzz::head_seeds, 64;
    /// Checkpoints and receipts, as peers send them.
    AUDIT_SIGNED: "audit_signed", audit::fuzz::signed, audit::fuzz::signed_seeds, 64;
    /// The part of an audit log that a peer tells, in parts.
    AUDIT_EXTRACT: "audit_extract", audit::fuzz::extracted, audit::fuzz::extracted_seeds, 64;
    /// A whole audit log, verified, read and exported; a megabyte is read at a time.
    AUDIT_LOG: "audit_log", audit::fuzz::log, audit::fuzz::log_seeds, 8192;
    /// `portway.toml`, environment and flags.
    CONFIG: "config", options::config, options::config_seeds, 1024;
    /// Addresses of nodes.
    ENDPOINT: "endpoint", options::endpoint, options::endpoint_seeds, 64;
    /// What a running `serve` leaves for other commands.
    SERVE_RECORD: "serve_record", options::serve_record, options::serve_record_seeds, 64;
    /// A manifest file, read to its end; a record may claim 4 MiB before its end is seen.
    MANIFEST_FILE: "manifest_file", records::manifest_file, records::manifest_file_seeds, 8192;
    /// Small questions between nodes, enrolment among them.
    QUESTION: "question", api::fuzz::question, api::fuzz::question_seeds, 64;
    /// Their answers.
    ANSWER: "answer", api::fuzz::answer, api::fuzz::answer_seeds, 64;
}
