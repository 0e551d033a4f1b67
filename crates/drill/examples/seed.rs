fn main() {
    let a: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let r = pabal_drill::sim::tell(a[0], a[1], true);
    for l in &r.story {
        println!("{l}");
    }
    println!("{:?}", r.wrong);
}
