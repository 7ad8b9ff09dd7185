/work/main/rust/hvabi/target/debug/deps/hvabi-8acc947fe96109e8.d: src/lib.rs src/boot.rs src/call.rs src/log.rs src/state.rs src/stats.rs src/vp.rs

/work/main/rust/hvabi/target/debug/deps/libhvabi-8acc947fe96109e8.rmeta: src/lib.rs src/boot.rs src/call.rs src/log.rs src/state.rs src/stats.rs src/vp.rs

src/lib.rs:
src/boot.rs:
src/call.rs:
src/log.rs:
src/state.rs:
src/stats.rs:
src/vp.rs:
