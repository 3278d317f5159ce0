//! Alibaba Cloud: the HaVip that makes the virtual address real on ECS, its EIP, and the instances behind it.

pub mod sign;
