# How far the outputs of quantized linears are from those of the model's own.
rule output_error:
    input:
        missing_parents("results/output_error/{label}/{key}.json"),
    output:
        update("results/output_error/{label}/{key}.json"),
    log:
        "logs/output_error/{label}/{key}.log",
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
