fn main(){ let a:Vec<u64>=std::env::args().skip(1).map(|a|a.parse().unwrap()).collect();
 let t=std::time::Instant::now();
 if a.len()>3 { for s in a[0]..a[1] { let t=std::time::Instant::now(); let r=pabal_drill::sim::run(s,a[2]); if t.elapsed().as_millis()>100 || r.wrong.is_some() { println!("seed {s} {:?} {:?}", t.elapsed(), r.wrong); } eprint!("{s} "); } return; }
 let c=pabal_drill::sim::campaign(a[0]..a[1],a[2],2,6,&|_|{}); for f in &c.failures { println!("seed {} tick {} {}: {}", f.seed,f.tick,f.wrong.check,f.wrong.what.chars().take(700).collect::<String>()); } println!("{} seeds {} ticks {} crashes {} refused {} decided {} failures, {:?}", c.seeds,c.ticks,c.crashes,c.refused,c.decided,c.failures.len(),t.elapsed()); 
 let mut never=vec![]; for p in pabal_fault::Point::ALL { if p.count()==0 { never.push(p.name()); } } println!("never: {never:#?}"); }
