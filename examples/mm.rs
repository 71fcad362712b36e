use toedit::{tensor::*, ops::matmul::*}; use std::time::Instant;
fn bench<E:Element>(m:usize,n:usize,k:usize,kern:Kernel<E>){
    let mut s=1u32; let mut r=||{s=s.wrapping_mul(1664525).wrapping_add(1013904223); (s>>8) as f32/16777216.0-0.5};
    let w:Vec<f32>=(0..n*k).map(|_|r()).collect();
    let a:Vec<E>=(0..m*k).map(|_|E::from_f32(r())).collect();
    let mat=Matrix::<E>::pack(n,k,|rg,o|{o.copy_from_slice(&w[rg.start*k..rg.end*k]);Ok(())}).unwrap();
    let mut out=vec![0f32;m*n];
    let mut best=1e9f64; let reps=(4e9/(2.0*(m*n*k) as f64)) as usize+1;
    for _ in 0..5 { let t=Instant::now(); for _ in 0..reps { multiply(kern,Rows{data:&a,stride:k,rows:m},Panels::of(&mat,0,n/32),&mut out,n);} best=best.min(t.elapsed().as_secs_f64()/reps as f64);}
    let mut e=0f64; for &(i,j) in &[(0,0),(m-1,n-1),(m/2,n/3)] { let x:f64=(0..k).map(|q|a[i*k+q].to_f32() as f64*E::from_f32(w[j*k+q]).to_f32() as f64).sum(); e=e.max((x-out[i*n+j] as f64).abs()); }
    println!("{} {m}x{n}x{k}: {:.0} GFLOP/s err {e:.1e}",E::NAME,2.0*(m*n*k) as f64/best/1e9);
}
fn main(){ for (m,n,k) in [(120,576,576),(120,1536,576),(120,576,1536),(96,256,576),(960,1024,1024),(48,1024,64)] {
 bench::<f32>(m,n,k,f32::kernel()); bench::<half::bf16>(m,n,k,half::bf16::kernel()); bench::<f32>(m,n,k,f32::portable_kernel()); bench::<half::bf16>(m,n,k,half::bf16::portable_kernel()); } }
