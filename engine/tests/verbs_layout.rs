//! The structures that `rdma-sys` describes are those of the installed C headers.
#![cfg(feature = "rdma")]

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::process::Command;

/// Builds the list of (C expression, what Rust says) for types and their fields. A field that C
/// calls otherwise is given with that name.
macro_rules! layout {
    (@c $field:tt) => { stringify!($field) };
    (@c $field:tt $name:literal) => { $name };
    ($($kind:literal $type:ident { $($field:ident $(= $name:literal)?),* $(,)? })*) => {
        vec![$(
            (
                format!("sizeof({} {})", $kind, stringify!($type)),
                size_of::<rdma_sys::$type>(),
            ),
            $((
                format!(
                    "offsetof({} {}, {})",
                    $kind, stringify!($type), layout!(@c $field $($name)?),
                ),
                offset_of!(rdma_sys::$type, $field),
            ),)*
        )*]
    };
}

fn expected() -> Vec<(String, usize)> {
    layout! {
        "struct" ibv_device_attr {
            max_qp_wr, device_cap_flags, max_cqe, max_qp_rd_atom, max_qp_init_rd_atom, max_mw,
        }
        "struct" ibv_port_attr { state, active_mtu, lid, link_layer }
        "union" ibv_gid { raw }
        "struct" ibv_context { device, ops, async_fd, abi_compat }
        "struct" ibv_context_ops { alloc_mw, dealloc_mw, poll_cq, req_notify_cq, post_send }
        "struct" ibv_async_event { element, event_type }
        "struct" ibv_comp_channel { fd }
        "struct" ibv_wc { wr_id, status, opcode, vendor_err, byte_len, qp_num, wc_flags }
        "struct" ibv_pd { context }
        "struct" ibv_mr { lkey, rkey }
        "struct" ibv_mw { rkey, type_ = "type" }
        "struct" ibv_qp { context, qp_num }
        "struct" ibv_cq { context, channel }
        "struct" ibv_qp_init_attr { qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all }
        "struct" ibv_qp_cap { max_send_wr, max_recv_wr, max_send_sge, max_recv_sge }
        "struct" ibv_qp_attr {
            qp_state, path_mtu, rq_psn, sq_psn, dest_qp_num, qp_access_flags, ah_attr, pkey_index,
            max_rd_atomic, max_dest_rd_atomic, min_rnr_timer, port_num, timeout, retry_cnt,
            rnr_retry,
        }
        "struct" ibv_ah_attr { grh, dlid, sl, is_global, port_num }
        "struct" ibv_global_route { dgid, flow_label, sgid_index, hop_limit, traffic_class }
        "struct" ibv_sge { addr, length, lkey }
        "struct" ibv_mw_bind_info { mr, addr, length, mw_access_flags }
        "struct" ibv_send_wr {
            wr_id, next, sg_list, num_sge, opcode, send_flags,
            imm_data_invalidated_rkey_union = "invalidate_rkey",
            wr, qp_type, bind_mw_tso_union = "bind_mw",
        }
    }
}

/// Fields in unions without a name, which are at an offset within the structure around them.
fn nested() -> Vec<(String, usize)> {
    let wr = offset_of!(rdma_sys::ibv_send_wr, wr);
    let bind = offset_of!(rdma_sys::ibv_send_wr, bind_mw_tso_union);
    let of = |field: &str| format!("offsetof(struct ibv_send_wr, {field})");
    vec![
        (of("wr.rdma.remote_addr"), wr + offset_of!(rdma_sys::rdma_t, remote_addr)),
        (of("wr.rdma.rkey"), wr + offset_of!(rdma_sys::rdma_t, rkey)),
        (of("bind_mw.mw"), bind + offset_of!(rdma_sys::bind_mw_t, mw)),
        (of("bind_mw.rkey"), bind + offset_of!(rdma_sys::bind_mw_t, rkey)),
        (of("bind_mw.bind_info"), bind + offset_of!(rdma_sys::bind_mw_t, bind_info)),
    ]
}

#[test]
fn structures_are_laid_out_as_the_c_headers_say() {
    let mut all = expected();
    all.extend(nested());
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("layout.c"), dir.path().join("layout"));
    let mut text =
        String::from("#include <stddef.h>\n#include <stdio.h>\n#include <infiniband/verbs.h>\n");
    text.push_str("int main(void) {\n");
    for (expression, _) in &all {
        writeln!(text, "printf(\"%zu\\n\", (size_t){expression});").unwrap();
    }
    text.push_str("return 0; }\n");
    std::fs::write(&source, text).unwrap();
    let headers = std::path::Path::new("/usr/include/infiniband/verbs.h").exists();
    let compiler = Command::new("cc").arg("--version").output().is_ok();
    if !headers || !compiler {
        println!("SKIPPED: no C compiler or no libibverbs headers");
        return;
    }
    let compiled = Command::new("cc").arg("-o").args([&program, &source]).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let said = Command::new(&program).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let said: Vec<usize> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(said.len(), all.len());
    let wrong: Vec<_> = all.iter().zip(said).filter(|((_, ours), theirs)| ours != theirs).collect();
    assert!(wrong.is_empty(), "(C expression, Rust), C: {wrong:#?}");
    println!("{} sizes and offsets agree", all.len());
}
