# The loss of a model, quantized or not.
rule evaluate:
    input:
        missing_parents("results/evaluate/{label}/{key}.json"),
    output:
        update("results/evaluate/{label}/{key}.json"),
    log:
        "logs/evaluate/{label}/{key}.log",
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
