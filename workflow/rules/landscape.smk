# The loss around a model's weights, and along a cell's quantization error.
rule landscape:
    input:
        missing_parents("results/landscape/{label}/{key}.json"),
    output:
        update("results/landscape/{label}/{key}.json"),
    log:
        "logs/landscape/{label}/{key}.log",
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
