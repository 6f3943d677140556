# Zero-shot tasks by a model, quantized or not.
rule zeroshot:
    input:
        missing_parents("results/zeroshot/{label}/{key}.json"),
    output:
        update("results/zeroshot/{label}/{key}.json"),
    log:
        "logs/zeroshot/{label}/{key}.log",
    conda:
        "../envs/bitlaw.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb,
        runtime=runtime,
    params:
        make=RUN.command,
    shell:
        "exec {params.make} {output} > {log} 2>&1"
